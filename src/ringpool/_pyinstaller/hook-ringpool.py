"""Names for PyInstaller what it cannot see: modules that the compiled core imports, or that are imported by name."""

from PyInstaller.utils.hooks import collect_submodules

NOT_OF_PROGRAMS = ("ringpool.__main__", "ringpool.bench", "ringpool._pyinstaller")

hiddenimports = collect_submodules("ringpool", lambda name: not name.startswith(NOT_OF_PROGRAMS))
