"""Which cells of a notebook an answer depends on.

A cell is needed when it binds a name that the answer reads, or may change what such a name stands for; and then so
is what that cell needs. What is bound is known for certain. What is changed is not, so the rule errs towards running
a cell: one too many costs time, one too few costs a right answer its marks.

A cell may change an object when, outside of functions, it stores into an item or attribute of it, calls a method of
it or hands it to a function; and when it names a function that stores into it, or makes such a call and drops the
result. What a function merely reads does not count, or each cell that trains would belong to every answer that shares
a table with it. Modules and functions are changed by stores alone, numbers and text by nothing: so neither
``torch.manual_seed(0)`` nor ``train.fit(net, T)`` makes its cell a part of what uses torch or T.

Not seen is a change through a second name that a call gave it (``row = first(table)``), or inside a method or lambda.
"""

import ast
import re
import symtable
from collections.abc import Iterator
from typing import NamedTuple

from IPython.core.inputtransformer2 import TransformerManager

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
LOOP = (ast.For, ast.AsyncFor, ast.comprehension)
ASSIGNMENT = (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.AugAssign)
PART = (ast.Attribute, ast.Subscript)
# These only read what they are handed.
READERS = {"all", "any", "bool", "dict", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min"}
READERS |= {"print", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "type", "zip"}


class Cell(NamedTuple):
    """What a cell does with global names."""

    binds: set[str]
    reads: set[str]
    fixed: set[str]  # bound to what only a store can change: a module, a function, a number, text
    stores: set[str]  # an item or attribute is written or deleted
    uses: set[str]  # a method is called, or it is handed to a function
    same: set[tuple[str, str]]  # (a, b): a now stands for b, for a part of it, or for what holds it
    effects: dict[str, set[str]]  # for each function bound here: what it changes, and what it may call


def needed(answer: str, before: list[str]) -> list[str]:
    """Those of the cells ``before`` on which the answer depends, directly or through others, in their order."""
    cells, kept, wanted = [read_cell(source) for source in before], set(), names(answer)[1]
    gives = [
        cell.binds | changed | ({"*"} if "import *" in source else set())
        for cell, changed, source in zip(cells, changes(cells), before, strict=True)
    ]
    wanted |= {"*"}
    while True:  # a function may read a name that a later cell binds, so one pass is not enough
        more = {i for i, given in enumerate(gives) if given & wanted} - kept
        if not more:
            return [before[i] for i in sorted(kept)]
        kept |= more
        wanted |= {name for i in more for name in cells[i].reads}


def names(source: str) -> tuple[set[str], set[str]]:
    """The global names that a cell binds, and those that it reads; both empty if it is no Python."""
    binds, reads = set(), set()
    try:
        scopes = [symtable.symtable(python(source), "cell", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return binds, reads
    whole = scopes[0]
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        for symbol in scope.get_symbols():
            if scope is whole or symbol.is_global():
                if symbol.is_assigned() or symbol.is_imported():
                    binds.add(symbol.get_name())
                if symbol.is_referenced():
                    reads.add(symbol.get_name())
    return binds, reads


def python(source: str) -> str:
    """A cell without IPython's own syntax; what ``%time`` and ``%%time`` run is Python like any other."""
    return TransformerManager().transform_cell(re.sub(r"^%%?time\b[ \t]*", "", source, flags=re.MULTILINE))


def changes(cells: list[Cell]) -> list[set[str]]:
    """The names whose objects each cell may change."""
    bound = set().union(*(cell.binds for cell in cells))
    fluid = set().union(*(cell.binds - cell.fixed for cell in cells))
    same = set().union(*(cell.same for cell in cells))
    effects = {name: found for cell in cells for name, found in cell.effects.items()}
    result = []
    for cell in cells:
        touched = cell.uses | cell.stores
        called = cell.reads & effects.keys()
        while more := {name for f in called for name in effects[f]} - touched:  # a function may call another
            touched |= more
            called |= more & effects.keys()
        while more := {b for a, b in same if a in touched} - touched:
            touched |= more
        result.append(touched & fluid | cell.stores & bound)
    return result


def read_cell(source: str) -> Cell:
    """What a cell does; nothing if it is no Python."""
    cell = Cell(*names(source), set(), set(), set(), set(), {})
    if cell.binds or cell.reads:
        loose = set()  # bound to what a call or a method may change
        for node in run_at_once(ast.parse(python(source))):
            note_binding(node, cell, loose)
            if isinstance(node, PART) and not isinstance(node.ctx, ast.Load):
                cell.stores.update(roots(node))
            elif isinstance(node, ast.Call):
                cell.uses.update(handed(node))
        cell.fixed.difference_update(loose)
    return cell


def run_at_once(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the cell does: not the bodies of functions, but their defaults and decorators."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, FUNCTION):
            waiting += [*node.args.defaults, *filter(None, node.args.kw_defaults), *getattr(node, "decorator_list", [])]
        else:
            waiting += ast.iter_child_nodes(node)


def note_binding(node: ast.AST, cell: Cell, loose: set[str]) -> None:
    """Note in ``cell`` and ``loose`` what a node binds: a fixed thing, a second name of something, or another."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        cell.fixed.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        cell.fixed.add(node.name)
        cell.effects[node.name] = effects_of(node)
    elif isinstance(node, ASSIGNMENT) and node.value is not None:
        for target, value in pairs(node):
            kind = cell.fixed if is_fixed(value) else loose
            kind.update(name.id for name in ast.walk(target) if isinstance(name, ast.Name))
            cell.same.update((a, b) for a in roots(target) for b in roots(value))
    elif isinstance(node, LOOP):
        found = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        loose |= found
        cell.same.update((a, name.id) for a in found for name in ast.walk(node.iter) if isinstance(name, ast.Name))
    elif isinstance(node, ast.ClassDef):
        loose.add(node.name)
    elif isinstance(node, ast.withitem) and node.optional_vars:
        loose.update(roots(node.optional_vars))


def pairs(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Each target of an assignment with its value; those of a tuple one by one, where both sides are written out."""
    for target in getattr(node, "targets", None) or [node.target]:
        sides = (target, node.value)
        if all(isinstance(side, (ast.Tuple, ast.List)) for side in sides) and len(target.elts) == len(node.value.elts):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield sides


def is_fixed(value: ast.AST) -> bool:
    """Whether an expression is made of numbers and text alone, or is a function."""
    made_of = (ast.Constant, ast.UnaryOp, ast.BinOp, ast.Tuple, ast.operator, ast.unaryop, ast.expr_context)
    return isinstance(value, ast.Lambda) or all(isinstance(node, made_of) for node in ast.walk(value))


def roots(node: ast.AST | None) -> set[str]:
    """The names at the root of ``a``, ``a.b``, ``a["b"].c`` or ``a.b().c``, or of the parts of a literal."""
    while isinstance(node, (*PART, ast.Starred, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict, ast.IfExp)):
        return set().union(*map(roots, ast.iter_child_nodes(node)))
    return set()


def handed(call: ast.Call) -> set[str]:
    """The names that a call may change: that whose method it is, and those in its arguments."""
    found = roots(call.func) if isinstance(call.func, ast.Attribute) else set()
    if not (isinstance(call.func, ast.Name) and call.func.id in READERS):
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        found |= {node.id for one in given for node in run_at_once(one) if isinstance(node, ast.Name)}
    return found


def effects_of(function: ast.AST) -> set[str]:
    """The global names whose objects a function changes when it is called, and those of what it may call."""
    nodes = list(ast.walk(function))
    shared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)} - shared
    found = set(shared)
    for node in nodes:
        if isinstance(node, PART) and not isinstance(node.ctx, ast.Load):
            found |= roots(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found |= handed(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found - own
