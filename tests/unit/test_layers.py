"""Which module may import which. The tables are the documentation; the tests compare them with the sources.

Nothing imports upwards. C knows no Python, Cython knows no policy, Python knows no memory order.
"""

import ast
import re

from programs import ROOT

PACKAGE = ROOT / "src" / "ringpool"
CSRC = ROOT / "csrc"

# From the top down: each imports only what stands further down.
PYTHON_LAYERS = [
    "__main__",  # the command line
    "bench",  # a package; what the command line runs
    "_pyinstaller",  # a package; what PyInstaller asks when it freezes a program
    "__init__",  # the names that users import
    "executor",  # submit, map, shutdown
    "supervisor",  # the thread that watches the workers
    "recovery",  # what is done when a worker has died
    "failures",  # what a broken pool raises, and one that takes no more tasks
    "lifecycle",  # which pools there are, and how they end with the interpreter
    "launcher",  # starts the worker processes
    "places",  # the worker processes, and which succeeds which
    "budget",  # how the shared memory is divided
    "zygote",  # makes workers by fork, from a process that was forked before there were threads
    "waiting",  # for descriptors, in threads and greenlets
    "worker",  # what a worker process runs
    "progress",  # tells how far a map has come
    "refusals",  # which limit or sandbox an error comes from
    "machine",  # how many processors and how much memory may be used
    "future",  # the class of the futures
    "session",  # what workers know of an interactive __main__, and what they are sent of it
    "contents",  # what a global is made of, so that changes are seen
    "replay",  # how a worker binds what it was sent of an interactive __main__
    "pickling",  # what picklers are to do with memory, with what travels by value, and with exceptions
    "functions",  # which functions travel by name, which by value
    "errors",  # exceptions, and the sentences in them
]

# The compiled core, with the parts in core/ that it includes and pool.pxd, which declares the C headers. It
# stands beside the layers: it reports facts to those that decide.
CORE = "_core"
CORE_IMPORTS = {"session", "replay", "pickling", "functions", "errors"}
CORE_IS_IMPORTED_BY = {
    *{"__init__", "executor", "supervisor", "failures", "launcher", "places", "budget"},
    *{"zygote", "worker", "future", "waiting"},
}

# From the top down, again; those in one line know nothing of each other.
C_LAYERS = [
    {"herald"},  # a thread that sleeps where greenlets must not
    {"pool"},  # all protocols, as the core calls them, and what a death takes
    {"results", "chunk", "recycle"},  # results and their readers, tasks of many items, the life of a worker
    {"wake"},  # tasks, and which worker is woken for them
    {"memory", "ending"},  # blocks that go back, and loans; the end of a task that runs
    {"map"},  # which part of the segment lies where
    {"board", "ring", "arena", "spin"},  # where tasks and blocks lie, how their places travel, how waits spin
    {"bell", "wire"},  # sleep without a lost wake-up; what payloads hold, byte for byte
    {"segment"},  # one piece of shared memory
    {"step"},  # where a test may end a process; nothing in an ordinary build
    {"os"},  # every system call but those of
    {"tree"},  # signals for a process and what it has started
    {"base"},  # words that all use: sizes, assertions, atomics whose names say their order
]

# What only os.c and tree.c may do, looked for in code without its comments and strings.
SYSTEM_CALLS = re.compile(r"\b(?:syscall|mmap|munmap|mremap|futex|memfd_create|fallocate)\s*\(|\b(?:SYS|FUTEX|MFD)_\w+")
SYSTEM_HEADERS = re.compile(r"\s*#\s*include\s*<(?:sys|linux)/")


def layer_of(path):
    """Returns the layer that a file of the package belongs to."""
    if path.suffix in {".pyx", ".pxd"}:
        return CORE
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def may_import(importer, imported):
    if importer == imported:
        return True
    if importer == CORE:
        return imported in CORE_IMPORTS
    if imported == CORE:
        return importer in CORE_IS_IMPORTED_BY
    return PYTHON_LAYERS.index(importer) < PYTHON_LAYERS.index(imported)


def target_layers(base, names):
    """Returns the layers that `from base import names` loads, given an absolute `base`."""
    parts = base.split(".")
    if parts[0] != "ringpool":
        return set()
    if len(parts) > 1:
        return {CORE if parts[1] == "pool" else parts[1]}
    modules = {*PYTHON_LAYERS, CORE}
    return {name if name in modules else "__init__" for name in names or [""]}


def python_imports(path, for_type_checkers=False):
    """Returns the layers that a .py file imports, at any depth; those for type checkers only if asked."""
    package = ["ringpool", *path.relative_to(PACKAGE).parts[:-1]]
    layers = set()

    def visit(node):
        if not for_type_checkers and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                layers.update(target_layers(alias.name, []))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            layers.update(target_layers(base, [alias.name for alias in node.names]))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(), str(path)))
    return layers


def cython_imports(path):
    """Returns the layers that a .pyx or .pxd file imports or cimports, by its lines."""
    text = re.sub(r"#.*", "", path.read_text())
    layers = set()
    for base, names in re.findall(r"^\s*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|.*)", text, re.MULTILINE):
        absolute = f"ringpool.{base[1:]}".rstrip(".") if base.startswith(".") else base
        layers.update(target_layers(absolute, re.findall(r"(\w+)(?:\s+as\s+\w+)?\s*(?:,|\)|$)", names)))
    for names in re.findall(r"^\s*c?import\s+(.*)", text, re.MULTILINE):
        for name in names.split(","):
            layers.update(target_layers(name.split(" as ")[0].strip(), []))
    return layers


def package_files():
    return [
        path
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in {".py", ".pyx", ".pxd"} and "__pycache__" not in path.parts
    ]


def c_files():
    return sorted(path for path in CSRC.glob("*.[ch]"))


def c_code(path):
    """Returns a C file without comments and strings. Line numbers stay."""
    blank = lambda match: "\n" * match.group().count("\n") or " "  # noqa: E731
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", blank, path.read_text(), flags=re.DOTALL)


def test_every_source_file_has_a_layer():
    known = {*PYTHON_LAYERS, CORE}
    assert not [str(path) for path in package_files() if layer_of(path) not in known]
    assert not [path.name for path in c_files() if not any(path.stem in layer for layer in C_LAYERS)]


def test_python_and_cython_import_only_from_below():
    upwards = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in package_files()
        for imported in sorted(python_imports(path) if path.suffix == ".py" else cython_imports(path))
        if not may_import(layer_of(path), imported)
    ]
    assert not upwards


def test_what_the_core_imports_of_the_package_is_imported_by_python_files_too():
    """Tools that freeze programs do not see the imports of compiled code. They see those for type checkers."""
    files = [path for path in package_files() if path.suffix == ".py"]
    seen = {layer for path in files for layer in python_imports(path, for_type_checkers=True)}
    assert seen >= CORE_IMPORTS


def test_cython_includes_its_own_pieces_only():
    for path in package_files():
        if path.suffix != ".py":
            for included in re.findall(r"^\s*include\s+[\"'](.+)[\"']", path.read_text(), re.MULTILINE):
                assert re.fullmatch(r"core/[\w/]+\.p[xy][dx]", included), f"{path.name} includes {included}"
            headers = re.findall(r"cdef\s+extern\s+from\s+[\"'](\w+)\.h[\"']", path.read_text())
            ours = {name for layer in C_LAYERS for name in layer}
            assert path.name == "pool.pxd" or not ours.intersection(headers), path.name


def test_no_header_has_a_decorator_that_cython_ignores_there():
    ignored = [
        f"{path.relative_to(ROOT)}: {found}"
        for path in sorted(PACKAGE.rglob("*.pxd"))
        for found in re.findall(r"^\s*(@cython\.(?!final\b)\w+)", path.read_text(), re.MULTILINE)
    ]
    assert not ignored


def test_c_includes_only_from_below():
    depth = {name: number for number, layer in enumerate(C_LAYERS) for name in layer}
    upwards = [
        f"{path.name} includes {included}.h"
        for path in c_files()
        for included in re.findall(r"^\s*#\s*include\s*\"(.+)\.h\"", path.read_text(), re.MULTILINE)
        if included != path.stem and depth.get(included, -1) <= depth[path.stem]
    ]
    assert not upwards


def test_c_knows_no_python():
    assert not [path.name for path in c_files() if "Python.h" in path.read_text()]


def test_only_the_lowest_floor_of_c_calls_the_system():
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in c_files()
        if path.name not in {"os.c", "tree.c"}
        for number, line in enumerate(c_code(path).splitlines(), 1)
        if SYSTEM_CALLS.search(line) or SYSTEM_HEADERS.match(line)
    ]
    assert not found
