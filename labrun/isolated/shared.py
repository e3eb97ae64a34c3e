"""What the servers of a solution share in one process, and do not share when each has a process of its own.

`shared` reads the source and runs nothing. It names what is surely one object for all servers and is surely changed
by some function: a module's global, an attribute of a class, a default argument. It misses what is changed in other
ways; that a server's own state is meant is for the reader to say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from labrun.solution import Solution
from labrun.text import shown

__all__ = ["shared"]

MOST = 5  # that are named
MAKERS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"})
CHANGING = frozenset(
    {"append", "appendleft", "add", "update", "extend", "insert", "remove", "discard", "pop", "popleft", "popitem"}
    | {"clear", "setdefault", "sort", "reverse"}
)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Named = tuple[int, str]  # a line, and what is shared there


def shared(solution: Solution) -> list[str]:
    """Lines such as "raft.py:7: the global votes, changed in Raft.RequestVote (line 80)", at most five."""
    files = sorted(solution.root.rglob("*.py")) if solution.package else [solution.file]
    found: list[str] = []
    for file in files:
        found += [f"{shown(file.name)}:{line}: {what}" for line, what in sorted(_in_file(file))]
    return found[:MOST]


def _in_file(file: Path) -> set[Named]:
    try:
        module = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()  # it has failed to load, and said so
    found: set[Named] = set()
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    for function, name in _functions(module, ""):
        found |= _defaults(function, name)
    found |= _globals(module)
    for cls in classes:
        found |= _class_attributes(cls, module)
    return found


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[Function, str]]:
    """All functions in a module or a class, with their qualified names; not those within functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child, prefix + child.name
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")


def _globals(module: ast.Module) -> set[Named]:
    made = {name: line for name, line, _ in _assigned(module.body)}
    mutable = {name: line for name, line, value in _assigned(module.body) if _is_mutable(value)}
    found = set()
    for function, where in _functions(module, ""):
        declared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
        own = {arg.arg for arg in ast.walk(function) if isinstance(arg, ast.arg)} | {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in declared & made.keys():
                found.add((made[node.id], f"the global {node.id}, changed in {where} (line {node.lineno})"))
            target = _changed(node)
            if isinstance(target, ast.Name) and target.id in mutable and target.id not in own - declared:
                found.add((mutable[target.id], f"the global {target.id}, changed in {where} (line {target.lineno})"))
    return _first_of_each(found)


def _class_attributes(cls: ast.ClassDef, module: ast.Module) -> set[Named]:
    attributes = {name: (line, value) for name, line, value in _assigned(cls.body)}
    of_server = {  # a server that sets it has its own from then on
        node.attr
        for node in ast.walk(cls)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is(node.value, "self")
    }
    found = set()
    for function, where in _functions(module, ""):
        names = [cls.name, "cls"] if where.startswith(cls.name + ".") else [cls.name]
        for node in ast.walk(function):
            target = _changed(node)
            if isinstance(target, ast.Attribute) and target.attr in attributes and _is(target.value, *names, "self"):
                line, value = attributes[target.attr]
                if _is_mutable(value) and not (_is(target.value, "self") and target.attr in of_server):
                    found.add((line, f"{cls.name}.{target.attr}, changed in {where} (line {target.lineno})"))
            stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is(node.value, *names)
            if isinstance(node, ast.Attribute) and stored and node.attr in attributes:
                line, _ = attributes[node.attr]
                found.add((line, f"{cls.name}.{node.attr}, set in {where} (line {node.lineno})"))
    return _first_of_each(found)


def _defaults(function: Function, where: str) -> set[Named]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True))
    pairs += [(arg, value) for arg, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    return {
        (value.lineno, f"the default of {where}'s argument {arg.arg}, one object for all calls")
        for arg, value in pairs
        if _is_mutable(value)
    }


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, int, ast.expr]]:
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                yield target.id, node.lineno, value


def _is_mutable(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        name = value.func.id if isinstance(value.func, ast.Name) else getattr(value.func, "attr", "")
        return name in MAKERS
    if isinstance(value, ast.BinOp):  # [0] * 7
        return _is_mutable(value.left) or _is_mutable(value.right)
    return isinstance(value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp))


def _changed(node: ast.AST) -> ast.expr | None:
    """What a node changes in place: x of x.append(1), x[0] = 1, del x[0], and x[0] += 1."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
        return node.func.value
    return None


def _is(node: ast.expr, *names: str) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def _first_of_each(found: set[Named]) -> set[Named]:
    """One place where it is changed is enough."""
    first: dict[tuple[int, str], Named] = {}
    for line, what in sorted(found):
        first.setdefault((line, what.partition(",")[0]), (line, what))
    return set(first.values())
