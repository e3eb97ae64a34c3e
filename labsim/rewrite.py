"""Rewrites a program so that it tells a race detector about every access to what threads may share.

`instrument` compiles a file with calls of HELPERS put in; `labsim.race` defines what they do. Only the bodies of
functions are rewritten: what a module or a class does while it is executed, it does before it has threads. Each helper
returns the very object that the program was about to use, and the access itself stays where it was:

    self.term                 _read(self, "term").term
    self.term = t             _write(self, "term").term = t
    self.term += 1            _augment(self, "term").term += 1
    self.log[i]               (x := _read(self, "log").log)[_item(x, i)]
    self.log.append(e)        (x := _read(self, "log").log).append(_calls(x, "append", e))
    for e in self.log:        for e in _each(_read(self, "log").log):
    len(self.log)             len(_length(_read(self, "log").log))
    votes += 1                votes += _bumps(1, cell, "votes")          when an inner function shares `votes`

So errors, tracebacks and line numbers are the program's own, and a helper is told of an access when all that the access
needs has been computed: whatever lock that took has been taken.

A variable that functions share has no address to name it by. The function that owns it makes a Cell when it begins,
which inner functions see under the same name. A module's variables have the module's own.

Not rewritten: class bodies, module bodies, annotations, patterns of `match`, comparisons of whole containers.
"""

from __future__ import annotations

import ast
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType

__all__ = ["HELPERS", "MODULE_CELL", "OF_CONTAINERS", "PREFIX", "instrument"]

HELPERS = (
    "read",  # an attribute of an object
    "write",
    "augment",  # `+=` and its like: the attribute, and what it holds if that changes in place
    "wrote",  # the write of an augmented assignment whose right side is computed in between
    "item",  # an element of a container
    "set_item",
    "del_item",
    "get_item",  # reads an element itself, where no expression may name an object
    "wrote_item",
    "method",  # of a container, perhaps, about to be called
    "calls",  # the same, with the last of its arguments
    "whole",  # all of a container, perhaps
    "length",
    "deep",  # all of a container, and what it holds
    "changes",  # all of a container, by somebody else's function
    "each",  # a container, element by element
    "grows",  # `+=` on a variable that holds a container, perhaps
    "get",  # a variable that functions share
    "put",
    "bumps",
    "cell",
    "slice",
    "getattr",
    "setattr",
    "delattr",
    "hasattr",
    "vars",
)
NEVER = sys.maxsize
PREFIX = "_labsim_"  # of names in the program; no double underscore, which a class would mangle
MODULE_CELL = f"{PREFIX}module"

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

# What functions that are not the program's do to their arguments, by name: builtins, and the library's.
_EFFECTS = {
    "whole": """
        all any bytearray bytes dict enumerate filter frozenset iter list map max min print repr reversed set sorted str
        sum tuple zip bisect.bisect bisect.bisect_left bisect.bisect_right collections.Counter collections.deque
        copy.copy dataclasses.replace heapq.nlargest heapq.nsmallest itertools.chain itertools.islice
        itertools.takewhile random.choice random.choices random.sample statistics.median
    """,
    "length": "bool len",
    "deep": "copy.deepcopy dataclasses.asdict dataclasses.astuple json.dumps pickle.dumps",
    "changes": """
        bisect.insort bisect.insort_left bisect.insort_right heapq.heapify heapq.heappop heapq.heappush
        heapq.heappushpop heapq.heapreplace random.shuffle
    """,
}
_EFFECT_OF = {name: effect for effect, names in _EFFECTS.items() for name in names.split()}
_BY_NAME = {"getattr": 2, "setattr": 3, "delattr": 2, "hasattr": 2, "vars": 1}  # least number of arguments

# Modules that are watched by what their functions do, and hold no variables of the program's.
_LIBRARY = sys.stdlib_module_names

# Methods of a container that read another one.
_TAKING = frozenset(f"{name}update" for name in ("", "difference_", "intersection_", "symmetric_difference_")) | {
    "extend",
    "extendleft",
    "join",
}
OF_CONTAINERS = frozenset(name for cls in (bytearray, deque, dict, list, set) for name in dir(cls))


def instrument(path: str) -> CodeType:
    """The file's code, telling HELPERS, which its builtins must have under `_labsim_` and their names."""
    source = Path(path).read_bytes()
    tree = ast.parse(source, path)
    _Rewriter(_Scope(None, tree.body), _imports(tree), _methods(tree)).rewrite(tree)
    ast.fix_missing_locations(tree)
    return compile(tree, path, "exec", dont_inherit=True)


def _imports(tree: ast.Module) -> dict[str, str]:
    """What the names that the file imports stand for: `heapq`, or `heapq.heappush`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def _methods(tree: ast.Module) -> frozenset[str]:
    """Names that are methods of the file's classes and nothing else, so that calling them reads no variable."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [f for node in classes for f in node.body if isinstance(f, ast.FunctionDef) and not f.decorator_list]
    stored = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and not isinstance(n.ctx, ast.Load)}
    return frozenset(f.name for f in functions) - stored - OF_CONTAINERS


# --- whose a name is ----------------------------------------------------------------------------------------------


class _Scope:
    """The names of one function, or of the module when there is no `parent`. Class bodies and comprehensions have none.

    `assigned` are the names that it binds otherwise than as parameters, functions, classes or imports: those that may
    change. `shared` are those of them that an inner function uses (and of a module's, those that are not in capitals),
    unless all is settled before there is such a function: bound once, further up, and not in a loop.
    """

    def __init__(self, parent: _Scope | None, body: Iterable[ast.AST], arguments: ast.arguments | None = None) -> None:
        self.parent = parent
        self.inner: dict[Function, _Scope] = {}
        self.locals = {a.arg for a in _parameters(arguments)} if arguments else set()
        self.assigned: set[str] = set()
        self.used: set[str] = set()
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.settled: dict[str, int] = {}  # names that are bound once, and where
        self.lines: dict[_Scope, int] = {}  # where inner functions begin
        for node in body:
            self._collect(node, frozenset(), False)
        self.assigned -= self.globals | self.nonlocals
        self.locals = (self.locals | self.assigned) - self.globals - self.nonlocals
        self.shared: set[str] = set()
        if parent is None:
            changed = {name for scope in self._below() for name in scope.globals}
            self.shared = changed | {name for name in self.assigned if not name.isupper() and name[:2] != "__"}
        else:
            below = [scope for inner in self.inner.values() for scope in inner._below()]
            changed = {name for scope in below for name in scope.nonlocals}
            for name in self.assigned:
                lines = [line for scope, line in self.lines.items() if any(s.takes(name, self) for s in scope._below())]
                if lines and not (self.settled.get(name, min(lines)) < min(lines) and name not in changed):
                    self.shared.add(name)

    def _below(self) -> Iterator[_Scope]:
        yield self
        for scope in self.inner.values():
            yield from scope._below()

    def takes(self, name: str, owner: _Scope) -> bool:
        """Whether this function, somewhere inside `owner`, uses the owner's variable `name`."""
        return name in self.used | self.nonlocals and self.owner(name) is owner

    def owner(self, name: str) -> _Scope:
        """The function whose variable a name is, or the module (which it may only be assumed to have)."""
        scope = self
        if name in self.globals:
            while scope.parent is not None:
                scope = scope.parent
            return scope
        while scope.parent is not None and name not in scope.locals:
            scope = scope.parent
        return scope

    def _collect(self, node: ast.AST, comprehended: frozenset[str], in_loop: bool) -> None:
        in_loop = in_loop or isinstance(node, (ast.For, ast.AsyncFor, ast.While))
        if isinstance(node, _FUNCTIONS):
            for part in _around(node):
                self._collect(part, comprehended, in_loop)
            if not isinstance(node, ast.Lambda):
                self.locals.add(node.name)
            body = [node.body] if isinstance(node, ast.Lambda) else node.body
            self.inner[node] = _Scope(self, body, node.args)
            self.lines[self.inner[node]] = node.lineno
            return
        if isinstance(node, ast.ClassDef):
            self.locals.add(node.name)
            kept = self.assigned.copy()
            for child in ast.iter_child_nodes(node):
                self._collect(child, comprehended, in_loop)
            self.assigned = kept  # a class's own names are no variables of the function around it
            return
        if isinstance(node, _COMPREHENSIONS):
            targets = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
            comprehended |= targets
        if isinstance(node, ast.Name) and node.id not in comprehended:
            if isinstance(node.ctx, ast.Load):
                self.used.add(node.id)
            else:
                self.settled[node.id] = NEVER if in_loop or node.id in self.assigned else node.lineno
                self.assigned.add(node.id)
        elif isinstance(node, ast.Global):
            self.globals.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            self.nonlocals.update(node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self.locals.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self.used.add(node.target.id)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            self.locals.add(node.name)
        for child in ast.iter_child_nodes(node):
            self._collect(child, comprehended, in_loop)


def _parameters(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    yield from (a for a in (arguments.vararg, arguments.kwarg) if a is not None)


def _around(function: Function) -> Iterator[ast.expr]:
    """The expressions that are evaluated where a function is defined, but for annotations."""
    yield from function.args.defaults
    yield from (default for default in function.args.kw_defaults if default is not None)
    if not isinstance(function, ast.Lambda):
        yield from function.decorator_list


# --- the rewriting ------------------------------------------------------------------------------------------------


class _Rewriter(ast.NodeTransformer):
    """Visits the statements of functions, and outside of them only looks for functions."""

    def __init__(self, module: _Scope, imports: dict[str, str], methods: frozenset[str]) -> None:
        self.scope = module
        self.imports = imports
        self.methods = methods
        self.classes: list[str] = []  # those around, whose names mangle others
        self.comprehended: list[set[str]] = []  # names that belong to the comprehensions around
        self.in_iterable = 0  # of a comprehension, where := is not allowed
        self.cells: dict[_Scope, str] = {module: MODULE_CELL}
        self.names = 0

    def rewrite(self, tree: ast.Module) -> None:
        for node in tree.body:
            self._outside(node)

    def _outside(self, node: ast.AST) -> None:
        """Of what runs once only, nothing is rewritten but the functions in it."""
        if isinstance(node, _FUNCTIONS):
            for part in _around(node):
                self._outside(part)
            self._function(node)
            return
        if isinstance(node, ast.ClassDef):
            self.classes.append(node.name)
        for child in ast.iter_child_nodes(node):
            self._outside(child)
        if isinstance(node, ast.ClassDef):
            self.classes.pop()

    def _function(self, node: Function) -> None:
        outer = self.scope, self.comprehended
        self.scope, self.comprehended = self.scope.inner[node], []
        if isinstance(node, ast.Lambda):
            self.scope.shared.clear()  # it has no room for a cell, and hardly a variable of its own
        if self.scope.shared:
            self.names += 1
            self.cells[self.scope] = f"{PREFIX}cell{self.names}"
        if isinstance(node, ast.Lambda):
            node.body = self.visit(node.body)
        else:
            node.body = self._statements(node.body)
            if self.scope.shared:
                self._make_cell(node)
        self.scope, self.comprehended = outer

    def _make_cell(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        cell = _assign(self.cells[self.scope], _call("cell", ast.Constant(node.name)))
        first = 1 if ast.get_docstring(node) is not None else 0
        while first < len(node.body) and isinstance(node.body[first], (ast.Global, ast.Nonlocal)):
            first += 1
        node.body.insert(first, ast.fix_missing_locations(ast.copy_location(cell, node)))

    def _statements(self, body: list[ast.stmt]) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        for statement in body:
            new = self.visit(statement)
            done.extend(new if isinstance(new, list) else [new])
        return done

    # -- definitions inside functions --

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        return self.visit_Lambda(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Lambda(self, node: Function) -> ast.AST:
        node.args.defaults = [self.visit(d) for d in node.args.defaults]
        node.args.kw_defaults = [d and self.visit(d) for d in node.args.kw_defaults]
        self._function(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._outside(node)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        return node

    # -- attributes --

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        what = "read" if isinstance(node.ctx, ast.Load) else "write"
        if self._is_import(node.value) or (node.attr.isupper() and self._is_of_module(node.value)):
            return node
        node.value = _call(what, self.visit(node.value), ast.Constant(self._mangled(node.attr)), at=node)
        return node

    def _mangled(self, name: str) -> str:
        private = name.startswith("__") and not name.endswith("__") and self.classes
        return f"_{self.classes[-1].lstrip('_')}{name}" if private else name

    def _is_import(self, node: ast.expr) -> bool:
        """A library's module: its functions are of no interest, and what they do to arguments is in tables."""
        return (
            isinstance(node, ast.Name)
            and node.id in self.imports
            and self._function_called(node).partition(".")[0] in _LIBRARY
        )

    def _is_of_module(self, node: ast.expr) -> bool:
        """A class or a module, whose names in capitals are constants."""
        if not isinstance(node, ast.Name) or any(node.id in names for names in self.comprehended):
            return False
        owner = self.scope.owner(node.id)
        return owner.parent is None and node.id not in owner.assigned

    # -- variables --

    def _cell_of(self, name: str) -> str | None:
        """The cell of a variable that functions share, or None."""
        if any(name in names for names in self.comprehended):
            return None
        owner = self.scope.owner(name)
        return self.cells[owner] if name in owner.shared else None

    def visit_Name(self, node: ast.Name) -> ast.AST:
        cell = self._cell_of(node.id)
        if cell is None or not isinstance(node.ctx, ast.Load):
            return node
        # Told first, then read: another thread may run in between.
        return ast.copy_location(ast.IfExp(_call("get", _name(cell), ast.Constant(node.id), at=node), node, node), node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        node.value = self._put(node.target, self.visit(node.value))
        return node

    def _put(self, target: ast.expr, value: ast.expr) -> ast.expr:
        cell = self._cell_of(target.id) if isinstance(target, ast.Name) else None
        if cell is None:
            return value
        assert isinstance(target, ast.Name)
        return _call("put", value, _name(cell), ast.Constant(target.id), at=value)

    def _puts(self, *targets: ast.AST | None) -> list[ast.stmt]:
        """Statements that tell of the shared variables that a statement has bound."""
        names = (n for target in targets if target is not None for n in ast.walk(target) if isinstance(n, ast.Name))
        told: list[ast.stmt] = []
        for n in names:
            cell = self._cell_of(n.id) if isinstance(n.ctx, (ast.Store, ast.Del)) else None
            if cell is not None:
                value = _call("put", ast.Constant(None), _name(cell), ast.Constant(n.id))
                told.append(ast.fix_missing_locations(ast.copy_location(ast.Expr(value), n)))
        return told

    # -- elements --

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        what = {ast.Load: "item", ast.Store: "set_item", ast.Del: "del_item"}[type(node.ctx)]
        index = self._index(node.slice)
        value = self.visit(node.value)
        if self.in_iterable and not isinstance(node.value, ast.Name):
            return _call("get_item", value, index, at=node)
        node.value, again = self._twice(value)
        node.slice = _call(what, again, index, at=node)
        return node

    def _index(self, node: ast.expr) -> ast.expr:
        """An index as an object that can be passed on."""
        if isinstance(node, ast.Slice):
            parts = (
                ast.Constant(None) if part is None else self.visit(part) for part in (node.lower, node.upper, node.step)
            )
            return _call("slice", *parts, at=node)
        if isinstance(node, ast.Tuple):
            node.elts = [self._index(part) for part in node.elts]
            return node
        index: ast.expr = self.visit(node)
        return index

    def _twice(self, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        """The expression, and another one that is the object it has given."""
        if isinstance(value, ast.Name):
            return value, _name(value.id)
        self.names += 1
        name = f"{PREFIX}{self.names}"
        return ast.copy_location(ast.NamedExpr(ast.Name(name, ast.Store()), value), value), _name(name)

    # -- calls --

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = self._function_called(node.func)
        special = _BY_NAME.get(called)
        if special is not None and len(node.args) >= special and not node.keywords:
            return _call(called, *(self.visit(argument) for argument in node.args), at=node)
        effect = _EFFECT_OF.get(called)
        node.args = [self._argument(argument, effect) for argument in node.args]
        for keyword in node.keywords:
            if keyword.arg is None:
                keyword.value = _call("whole", self.visit(keyword.value), at=keyword.value)
            else:
                keyword.value = self.visit(keyword.value)
        if isinstance(node.func, ast.Attribute) and not self._is_import(node.func.value):
            self._method(node, node.func)
        else:
            node.func = self.visit(node.func)
        return node

    def _function_called(self, function: ast.expr) -> str:
        """The name of a builtin, or the full name of what the file has imported; anything else is ""."""
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            module = self._function_called(function.value)
            return f"{module}.{function.attr}" if module else ""
        if not isinstance(function, ast.Name) or any(function.id in names for names in self.comprehended):
            return ""
        owner = self.scope.owner(function.id)
        if owner.parent is None and function.id in self.imports:
            return self.imports[function.id]
        return "" if function.id in owner.locals else function.id

    def _argument(self, node: ast.expr, effect: str | None) -> ast.expr:
        if isinstance(node, ast.Starred):
            node.value = _call("whole", self.visit(node.value), at=node.value)
            return node
        interesting = isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call))
        value: ast.expr = self.visit(node)
        return _call(effect, value, at=node) if effect and (interesting or effect == "deep") else value

    def _method(self, node: ast.Call, function: ast.Attribute) -> None:
        name = ast.Constant(self._mangled(function.attr))
        if function.attr in _TAKING:
            node.args = [a if isinstance(a, ast.Starred) else _call("whole", a, at=a) for a in node.args]
        if function.attr in self.methods:
            function.value = self.visit(function.value)
            return
        simple = all(isinstance(a, (ast.Name, ast.Constant)) for a in node.args) and not node.keywords
        receiver = self.visit(function.value)
        plain = not node.args or isinstance(node.args[-1], ast.Starred) or node.keywords
        if simple or plain or (self.in_iterable and not isinstance(receiver, ast.Name)):
            function.value = _call("method", receiver, name, at=function)
            return
        function.value, again = self._twice(receiver)
        node.args[-1] = _call("calls", again, name, node.args[-1], at=function)

    # -- iteration, length and truth --

    def visit_For(self, node: ast.For) -> list[ast.stmt]:
        # An ordinary loop reads its container when it begins; one that may let go of a lock in between, at each step.
        steps = any(
            isinstance(n, (ast.Call, ast.With, ast.Yield)) for statement in node.body for n in ast.walk(statement)
        )
        told = self._puts(node.target)
        node.iter = _call("each" if steps else "whole", self.visit(node.iter), at=node.iter)
        node.target = self.visit(node.target)
        node.body = told + self._statements(node.body)
        node.orelse = self._statements(node.orelse)
        return [node]

    def _comprehension(self, node: _Comprehension) -> ast.AST:
        names: set[str] = set()
        self.comprehended.append(names)
        for generator in node.generators:
            self.in_iterable += 1
            generator.iter = _call("whole", self.visit(generator.iter), at=generator.iter)
            self.in_iterable -= 1
            names.update(n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name))
            generator.ifs = [self._truth(condition) for condition in generator.ifs]
        if isinstance(node, ast.DictComp):
            node.key = self.visit(node.key)
            node.value = self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self.comprehended.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _truth(self, test: ast.expr) -> ast.expr:
        """An expression whose truth is asked for, which for a container is its length."""
        held = isinstance(test, (ast.Name, ast.Attribute, ast.Subscript))
        new: ast.expr = self.visit(test)
        return _call("length", new, at=test) if held else new

    def visit_If(self, node: ast.If | ast.While) -> ast.AST:
        node.test = self._truth(node.test)
        node.body = self._statements(node.body)
        node.orelse = self._statements(node.orelse)
        return node

    visit_While = visit_If

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self._truth(node.test)
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        node.operand = self._truth(node.operand) if isinstance(node.op, ast.Not) else self.visit(node.operand)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        *all_but_last, last = node.values
        node.values = [*map(self._truth, all_but_last), self.visit(last)]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        node.left = self.visit(node.left)
        node.comparators = [
            _call("whole", self.visit(c), at=c) if isinstance(op, (ast.In, ast.NotIn)) else self.visit(c)
            for op, c in zip(node.ops, node.comparators, strict=True)
        ]
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        lists = isinstance(node.op, ast.Add) and (_makes_list(node.left) or _makes_list(node.right))
        node.left = self._argument(node.left, "whole" if lists else None)
        node.right = self._argument(node.right, "whole" if lists else None)
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        node.value = self._argument(node.value, "whole")
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        node.value = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            node.value = _call("whole", node.value, at=node.value)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        node.values = [
            self.visit(value) if key is not None else _call("whole", self.visit(value), at=value)
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        node.keys = [key and self.visit(key) for key in node.keys]
        return node

    # -- statements that bind --

    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        told: list[ast.stmt] = []
        value: ast.expr = self.visit(node.value)
        if any(isinstance(t, (ast.Tuple, ast.List)) or _is_slice(t) for t in node.targets):
            value = _call("whole", value, at=value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                value = self._put(target, value)
            else:
                told += self._puts(target)
        node.value = value
        node.targets = [self.visit(target) for target in node.targets]
        return [node, *told]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self._put(node.target, self.visit(node.value))
            node.target = self.visit(node.target)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        target, value = node.target, self.visit(node.value)
        simple = isinstance(value, (ast.Constant, ast.Name))
        if isinstance(node.op, ast.Add) and isinstance(node.value, (ast.Name, ast.Attribute)):
            value = _call("whole", value, at=node.value)
        if isinstance(target, ast.Name):
            cell = self._cell_of(target.id)
            if cell is not None:
                value = _call("bumps", value, _name(cell), ast.Constant(target.id), at=node)
            elif not isinstance(value, ast.Constant):
                value = _call("grows", _name(target.id), value, at=node)
        elif isinstance(target, ast.Attribute):
            name = ast.Constant(self._mangled(target.attr))
            holder = self.visit(target.value)
            if simple:
                target.value = _call("augment", holder, name, at=target)
            else:
                target.value, again = self._twice(_call("read", holder, name, at=target))
                value = _call("wrote", again, name, value, at=node)
        else:
            holder, again = self._twice(self.visit(target.value))
            index, index_again = self._twice(_call("item", again, self._index(target.slice), at=target))
            target.value, target.slice = holder, index
            value = _call("wrote_item", again, index_again, value, at=node)
        node.value = value
        return node

    def visit_Delete(self, node: ast.Delete) -> list[ast.stmt]:
        told = self._puts(*node.targets)
        node.targets = [self.visit(target) for target in node.targets]
        return [*told, node]

    def visit_With(self, node: ast.With) -> ast.AST:
        told = self._puts(*(item.optional_vars for item in node.items))
        for item in node.items:
            item.context_expr = self.visit(item.context_expr)
            if item.optional_vars is not None:
                item.optional_vars = self.visit(item.optional_vars)
        node.body = told + self._statements(node.body)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.test = self._truth(node.test)
        node.msg = node.msg and self.visit(node.msg)
        return node

    def visit_Match(self, node: ast.Match) -> ast.AST:
        node.subject = self.visit(node.subject)
        for case in node.cases:
            case.guard = case.guard and self._truth(case.guard)
            case.body = self._statements(case.body)
        return node


def _makes_list(node: ast.expr) -> bool:
    return isinstance(node, (ast.List, ast.ListComp)) or _is_slice(node)


def _is_slice(node: ast.expr) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice)


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _call(helper: str, *arguments: ast.expr, at: ast.AST | None = None) -> ast.Call:
    call = ast.Call(_name(PREFIX + helper), list(arguments), [])
    return ast.copy_location(call, at) if at is not None else call
