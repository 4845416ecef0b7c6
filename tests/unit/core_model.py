"""The compiled core as Cython's own compiler understands it: which part uses what of which, with its line.

A part is src/ringpool/core/X.pyx with its header X.pxd. The compiler analyses all of them and resolves each name and
attribute; nothing is generated. This takes some seconds of processor, once a process.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from programs import ROOT

PACKAGE = ROOT / "src" / "ringpool"
COLOURS = ("raw", "quiet", "open")


@dataclass(frozen=True)
class Use:
    """A name of part `owner` stands in part `user`."""

    user: str
    owner: str
    name: str
    where: str


@dataclass(frozen=True)
class Write:
    """Part `user` assigns to a field that a class of part `owner` declares."""

    user: str
    owner: str
    cls: str
    field: str
    where: str


@dataclass
class Function:
    """A C function or C method. `name` is "f" or "Class.f"."""

    name: str
    part: str
    where: str
    colour: str | None  # as its header says; None if it stands in no header
    nogil: bool
    raises: bool  # not noexcept. One that returns an object has no such choice, and `raises` is False
    returns_object: bool
    with_lock: bool = False  # its header says that the caller holds the lock of the pool
    calls: list[tuple[str, str]] = field(default_factory=list)  # of the core: what is called, and where, in their order

    @property
    def effective_colour(self) -> str:
        """The colour; of one that stands in no header, what its signature says."""
        if self.colour:
            return self.colour
        return "open" if self.raises or self.returns_object else "raw" if self.nogil else "quiet"


@dataclass
class Core:
    """What the tests ask."""

    parts: list[str]  # from the lowest floor up
    uses: list[Use] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    unknown_attributes: list[str] = field(default_factory=list)  # a sentence for each
    functions: dict[str, Function] = field(default_factory=dict)
    defs: list[Function] = field(default_factory=list)  # what Python calls; all open


def included(package: Path, module: str) -> list[str]:
    """Returns the parts that _core.pyx or _core.pxd includes, in their order."""
    text = (package / module).read_text()
    return re.findall(r"^include \"core/(.+)\.p[yx][xd]\"$", text, re.MULTILINE)


def header_colours(package: Path, parts: list[str]) -> tuple[dict[str, str], list[str], set[str]]:
    """Reads the headers.

    Returns:
        The colour of each function and method ("f" or "Class.f"); what stands under none; and what stands under one
        "with the lock".
    """
    colours: dict[str, str] = {}
    uncoloured = []
    with_lock = set()
    for part in parts:
        path = package / "core" / f"{part}.pxd"
        if not path.exists():
            continue
        cls, colour, lock, extern = "", None, False, False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line and not line.startswith((" ", "#")):
                extern = line.startswith("cdef extern")
                found = re.match(r"cdef class (\w+)", line)
                if found or cls or not line.startswith("cdef"):
                    colour = colour if not found and not cls else None
                cls = found[1] if found else ""
            found = re.match(r"(    )?# (raw|quiet|open)\b([^:]*):", line)
            if found and bool(found[1]) == bool(cls and line.startswith(" ")):
                if not found[1]:
                    cls = ""
                colour, lock = found[2], found[3] == ", with the lock"
                continue
            found = re.match(r"(    )?cp?def (?!class\b|struct\b|enum\b|extern\b)[^#(]*?(\w+)\(", line)
            if found and not extern and not line.rstrip().endswith(":"):
                name = f"{cls}.{found[2]}" if found[1] else found[2]
                if colour is None:
                    uncoloured.append(f"{part}.pxd:{number}: {name}")
                else:
                    colours[name] = colour
                    with_lock |= {name} if lock else set()
    return colours, uncoloured, with_lock


def analyse(package: Path) -> Core:
    """Has the compiler analyse a package: this one, or a copy that a test has broken."""
    pytest.importorskip("Cython", reason="the compiler that made the core is not here")
    from Cython.Compiler import Main, Options, ParseTreeTransforms, Pipeline

    options = Main.CompilationOptions(Options.default_options, include_path=[str(package.parent)])
    context = Main.Context.from_options(options)
    source = Main.CompilationSource(
        Main.FileSourceDescriptor(str(package / "_core.pyx")), f"{package.name}._core", str(package.parent)
    )
    pipeline = Pipeline.create_pyx_pipeline(context, options, Main.create_default_resultobj(source, options))
    last = next(k for k, s in enumerate(pipeline) if isinstance(s, ParseTreeTransforms.AnalyseExpressionsTransform))
    error, tree = Pipeline.run_pipeline(pipeline[: last + 1], source)
    assert error is None, error
    assert tree is not None, "the core does not compile"
    return Reader(package, tree).core


@functools.cache
def core() -> Core:
    """The core of this checkout."""
    return analyse(PACKAGE)


class Reader:
    """Fills a Core from the tree of the compiler."""

    def __init__(self, package: Path, tree: Any) -> None:
        from Cython.Compiler import ExprNodes, Nodes

        self.expr, self.nodes = ExprNodes, Nodes
        self.root = package / "core"
        self.core = Core(included(package, "_core.pyx"))
        headers = included(package, "_core.pxd")
        self.colours, _, self.with_lock = header_colours(package, headers)
        self.seen: set[Any] = set()
        self.scope = tree.scope
        for entry in list(self.scope.entries.values()):
            self.read_entry(entry)
        self.walk(tree, None)

    # ---- where things stand ----

    def part(self, pos: Any) -> str | None:
        """The part that a position lies in; None for what is no part, as the declarations of the C headers."""
        path = Path(pos[0].get_filenametable_entry()).absolute() if pos else None
        if path is None or not path.is_relative_to(self.root):
            return None
        return str(path.relative_to(self.root).with_suffix(""))

    def where(self, pos: Any) -> str:
        return f"{Path(pos[0].get_filenametable_entry()).absolute().relative_to(self.root)}:{pos[1]}"

    def use(self, pos: Any, owner: str | None, name: str) -> None:
        user = self.part(pos)
        if user and owner and user != owner:
            self.core.uses.append(Use(user, owner, name, self.where(pos)))

    def use_type(self, pos: Any, type_: Any) -> None:
        """Notes the classes and structs that a type is made of."""
        while type_ is not None and (type_.is_ptr or type_.is_array or getattr(type_, "is_cv_qualified", False)):
            type_ = getattr(type_, "base_type", None) or getattr(type_, "cv_base_type", None)
        if type_ is None:
            return
        if type_.is_cfunction:
            self.use_type(pos, type_.return_type)
            for arg in type_.args:
                self.use_type(pos, arg.type)
        elif type_.is_extension_type or type_.is_struct_or_union or type_.is_enum:
            entry = self.scope.entries.get(getattr(type_, "name", None))
            if entry is not None and entry.pos:
                self.use(pos, self.part(entry.pos), type_.name)

    # ---- declarations ----

    def read_entry(self, entry: Any) -> None:
        """Reads what a name of the module is declared with: fields, signatures, a base."""
        if not entry.pos or not self.part(entry.pos):
            return
        type_ = entry.type
        if entry.is_type and (type_.is_extension_type or type_.is_struct_or_union):
            if type_.scope is None:
                return
            if type_.is_extension_type and type_.base_type is not None:
                self.use_type(entry.pos, type_.base_type)
            for member in type_.scope.entries.values():
                if member.pos and self.part(member.pos) == self.part(entry.pos):
                    self.use_type(member.pos, member.type)
                    if type_.is_extension_type and member.is_cmethod and not getattr(member, "is_inherited", False):
                        self.add_function(f"{type_.name}.{member.name}", member, type_.base_type)
        else:
            self.use_type(entry.pos, type_)
            if entry.is_cfunction:
                self.add_function(entry.name, entry)

    def add_function(self, name: str, entry: Any, base: Any = None) -> None:
        type_ = entry.type
        if not type_.is_cfunction:
            return
        gives_object = bool(type_.return_type.is_pyobject)
        raises = not gives_object and (type_.exception_value is not None or bool(type_.exception_check))
        colour = self.colours.get(name)
        while colour is None and base is not None:  # an override has the colour of what it overrides
            colour = self.colours.get(f"{base.name}.{entry.name}")
            base = base.base_type
        self.core.functions[name] = Function(
            name,
            self.part(entry.pos) or "",
            self.where(entry.pos),
            colour,
            bool(type_.nogil),
            raises,
            gives_object,
            name in self.with_lock,
        )

    # ---- bodies ----

    def children(self, node: Any) -> Iterator[Any]:
        for attribute in node.child_attrs or ():
            child = getattr(node, attribute, None)
            yield from child if isinstance(child, list) else [child]

    def walk(self, node: Any, function: Function | None) -> None:
        if node is None or id(node) in self.seen:
            return
        self.seen.add(id(node))
        nodes, expr = self.nodes, self.expr
        if isinstance(node, nodes.FuncDefNode) and self.part(node.pos):
            function = self.enter(node)
        if isinstance(node, expr.NameNode) and node.entry is not None and node.entry.pos:
            if node.entry.scope is self.scope:
                self.use(node.pos, self.part(node.entry.pos), node.name)
        elif isinstance(node, expr.AttributeNode):
            self.read_attribute(node)
        elif isinstance(node, expr.TypecastNode) and self.part(node.pos):
            self.use_type(node.pos, node.type)
        elif isinstance(node, expr.SimpleCallNode) and function is not None:
            called = self.name_of_called(node.function)
            if called:
                function.calls.append((called, self.where(node.pos)))
        elif isinstance(node, nodes.SingleAssignmentNode | nodes.InPlaceAssignmentNode):
            self.read_target(node.lhs)
        elif isinstance(node, nodes.CascadedAssignmentNode):
            for lhs in node.lhs_list:
                self.read_target(lhs)
        for child in self.children(node):
            self.walk(child, function)

    def enter(self, node: Any) -> Function | None:
        if isinstance(node, self.nodes.CFuncDefNode):
            scope = node.entry.scope
            name = f"{scope.name}.{node.entry.name}" if scope is not self.scope else node.entry.name
            if scope is not self.scope and name not in self.core.functions:
                name = f"{scope.class_name}.{node.entry.name}" if hasattr(scope, "class_name") else name
            function = self.core.functions.get(name)
        else:
            where = self.where(node.pos)
            function = Function(where, self.part(node.pos) or "", where, "open", False, False, True)
            self.core.defs.append(function)
        for entry in (node.local_scope.entries if node.local_scope else {}).values():
            if entry.pos and not entry.is_inherited:
                self.use_type(entry.pos, entry.type)
        return function

    def name_of_called(self, callee: Any) -> str | None:
        if isinstance(callee, self.expr.NameNode) and callee.entry is not None and callee.entry.is_cfunction:
            return callee.name if callee.name in self.core.functions else None
        if isinstance(callee, self.expr.AttributeNode) and callee.obj.type.is_extension_type:
            owner = self.declaring(callee.obj.type, callee.attribute)
            return f"{owner.name}.{callee.attribute}" if owner is not None else None
        return None

    def declaring(self, type_: Any, attribute: str) -> Any:
        """The class, of type_ and its bases, that declares a member; None if none does."""
        found = None
        while type_ is not None and type_.is_extension_type and type_.scope is not None:
            if attribute in type_.scope.entries:
                found = type_
            type_ = type_.base_type
        return found

    def read_attribute(self, node: Any) -> None:
        type_ = node.obj.type
        if type_ is None or not type_.is_extension_type or self.part(node.pos) is None:
            return
        entry = self.scope.entries.get(getattr(type_, "name", None))
        if entry is None or not entry.pos or not self.part(entry.pos):
            return  # no class of the core
        owner = self.declaring(type_, node.attribute)
        if owner is not None:
            self.use(node.pos, self.part(self.scope.entries[owner.name].pos), f"{owner.name}.{node.attribute}")
        elif node.attribute not in dir(object):
            self.core.unknown_attributes.append(f"{self.where(node.pos)}: {type_.name} has no {node.attribute}")

    def read_target(self, node: Any) -> None:
        """Notes what is assigned to, if it is a field of a class, or lies in one."""
        while node is not None and self.part(node.pos):
            if isinstance(node, self.expr.AttributeNode):
                if node.obj.type is not None and node.obj.type.is_extension_type:
                    owner = self.declaring(node.obj.type, node.attribute)
                    entry = self.scope.entries.get(owner.name) if owner is not None else None
                    part = self.part(entry.pos) if entry is not None else None
                    if part and part != self.part(node.pos):
                        self.core.writes.append(
                            Write(self.part(node.pos), part, owner.name, node.attribute, self.where(node.pos))
                        )
                    return
                node = node.obj
            elif isinstance(node, self.expr.IndexNode):
                node = node.base
            elif isinstance(node, self.expr.CoercionNode | self.expr.TypecastNode):
                node = getattr(node, "arg", None) or getattr(node, "operand", None)
            else:
                return
