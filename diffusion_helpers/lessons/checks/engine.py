"""A check as data: the right answer, cases to try, and known mistakes; and the one way to compare and explain.

An answer is tried on several cases whose values are drawn anew in every call, so nothing that is right by chance
passes, and a known mistake is named only if it gives what the answer gives in all of them.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np
import torch
from torch import Tensor

_SHAPES = re.compile("must match|broadcast|cannot be multiplied")  # in what torch and numpy say of shapes


class Mistake(AssertionError):
    """What is wrong with a learner's answer, in plain words, with one hint."""


@dataclass
class Check:
    """An exercise: call it with the learner's answer, a function (or, for one exercise, a number).

    ``right`` is an answer; ``cases`` draws the arguments of several calls; ``mistakes`` is a list of hints, each
    followed by the wrong answers that it is for, which return None for what they say nothing about. ``what`` names
    what a function returns, one thing or more; where that cannot be compared, as with noise, ``see`` (answer, *case)
    says by name what is compared instead, and may raise ``Mistake`` itself. Numbers agree to 1e-4, relative or
    absolute, or to the ``tolerance`` of their name; with known mistakes, whose noise is their own, at least to
    ``slack``. ``hint`` is for mistakes that nobody knew, ``shapes`` for tensors that do not broadcast.
    """

    about: str
    right: object
    cases: Callable[[], Iterable[tuple]]
    mistakes: list
    says: str
    hint: str
    what: str | tuple[str, ...] = "the answer"
    see: Callable[..., dict[str, object]] | None = None
    tolerance: dict[str, float] = field(default_factory=dict)
    slack: float = 0.0
    shapes: str = "print the .shape of the tensors that meet."

    def __post_init__(self) -> None:
        self.__doc__ = self.about

    @property
    def known(self) -> list[tuple[str, object]]:
        """(hint, wrong answer) for each known mistake."""
        hint, found = "", []
        for one in self.mistakes:
            if isinstance(one, str):
                hint = one
            else:
                found.append((hint, one))
        return found

    def __call__(self, answer: object) -> None:
        tried = []
        for case in self.cases():
            try:
                found = self._look(answer, case)
            except (RuntimeError, ValueError) as error:
                if not _SHAPES.search(str(error)):
                    raise
                raise Mistake(f"Shapes do not fit: {str(error).splitlines()[0]}. Hint: {self.shapes}") from error
            tried.append((case, found, self._look(self.right, case)))
        amiss = [one for one in tried if not self._passes(*one[1:])]
        if not amiss:
            print(f"✓ {self.says}")
            return
        for hint, wrong in self.known:
            if all(self._agrees(found, wrong, case) for case, found, _ in tried):
                raise Mistake(hint)
        self._explain(*amiss[0])

    def _look(self, answer: object, case: tuple) -> dict[str, object]:
        case = copy.deepcopy(case)  # an answer may write into it
        if self.see:
            return self.see(answer, *case)
        if isinstance(self.what, str):
            return {self.what: answer(*case)}
        return parts(answer(*case), self.what)

    def _passes(self, found: dict, right: dict) -> bool:
        return all(
            alike(found[name], value, self.tolerance.get(name, 1e-4))
            and (isinstance(found[name], Tensor) or not isinstance(value, Tensor))
            for name, value in right.items()
        )

    def _agrees(self, found: dict, wrong: object, case: tuple) -> bool:
        try:
            other = self._look(wrong, case)
        except (Mistake, RuntimeError):  # this wrong answer fails in another way
            return False
        return all(
            value is None or alike(found[name], value, max(self.slack, self.tolerance.get(name, 1e-4)))
            for name, value in other.items()
        )

    def _explain(self, case: tuple, found: dict, right: dict) -> None:
        """Raise the Mistake that says what was given, returned and expected."""
        name = next(name for name in right if not self._passes({name: found[name]}, {name: right[name]}))
        if isinstance(right[name], Tensor):
            tensor(found[name], right[name].shape, name)
        elif isinstance(right[name], Real):
            number(found[name], name)
        given = zip(inspect.signature(self.right).parameters, case, strict=False) if callable(self.right) else ()
        few = [f"{one} = {_shown(v)}" for one, v in given if isinstance(v, Real) or _size(v) in range(1, 7)]
        where = f"For {', '.join(few)}: {name}" if few else name.replace("the ", "The ", 1)
        raise Mistake(f"{where} is {_shown(found[name])}, expected {_shown(right[name])}. Hint: {self.hint}")


def _size(value: object) -> int:
    return value.numel() if isinstance(value, Tensor) else 0


def _shown(value: object) -> str:
    """A number, or the first few of a tensor or list."""
    try:
        flat = _numbers(value).flatten()
    except (TypeError, ValueError, RuntimeError):  # no numbers
        return repr(value)[:80]
    few = [f"{one:.4g}" for one in flat[:10].tolist()]
    if isinstance(value, Real) or _size(value) == 1:
        return few[0]
    return f"[{', '.join(few)}{', …' if len(flat) > 10 else ''}]"


def _numbers(value: object) -> Tensor:
    return torch.as_tensor(float(value) if isinstance(value, Real) else value).detach().cpu()


def alike(found: object, other: object, tolerance: float = 1e-4) -> bool:
    """Whether both hold the same numbers in the same shape, whatever holds them; a number may be a tensor of one."""
    try:
        found, other = _numbers(found), _numbers(other)
    except (TypeError, ValueError, RuntimeError):  # no numbers
        return False
    if found.is_complex() or other.is_complex():
        return False
    if other.ndim == 0 and found.numel() == 1:
        found = found.reshape(())
    same = found.shape == other.shape
    return same and torch.allclose(found.double(), other.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def parts(found: object, names: Sequence[str]) -> dict[str, object]:
    """What a function returned, a tuple or list, by name. Raises Mistake for another number of things."""
    if not isinstance(found, (tuple, list)) or len(found) != len(names):
        raise Mistake(f"Return two things, {' and '.join(names)}.")
    return dict(zip(names, found, strict=True))


def tensor(found: object, shape: Sequence[int], what: str) -> Tensor:
    """``found``, detached. Raises Mistake unless it is a tensor of this shape, and finite."""
    if not isinstance(found, Tensor):
        raise Mistake(f"{what} is a {type(found).__name__}: expected a tensor. Did you forget to return it?")
    if tuple(found.shape) != tuple(shape):
        raise Mistake(f"{what} has shape {tuple(found.shape)}: expected {tuple(shape)}.")
    if not found.isfinite().all():
        raise Mistake(f"{what} holds NaN or infinity. Hint: look for a root of a negative number, or a division by 0.")
    return found.detach()


def number(found: object, what: str) -> float:
    """``found``, a number or a tensor or array of one, as a float. Raises Mistake for anything else, and for NaN."""
    if isinstance(found, (Tensor, np.ndarray)) and np.prod(found.shape) == 1:
        found = found.item()
    if not isinstance(found, Real) or isinstance(found, bool):
        raise Mistake(f"{what} is {found!r}: expected a number.")
    if found != found:
        raise Mistake(f"{what} is NaN. Hint: look for a root or logarithm of a negative number, or 0 / 0.")
    return float(found)


def between(low: float, high: float) -> float:
    """A number drawn evenly from low to high."""
    return low + (high - low) * torch.rand(()).item()
