"""The compiled part of the package. Its users are the package's own files."""

from collections.abc import Callable
from os import PathLike
from typing import Any, final

__all__ = ["Model"]

@final
class Model:
    @staticmethod
    def load(folder: str | PathLike[str], backend: str, adapter: str | None) -> Model: ...
    def info(self) -> str: ...
    @property
    def device(self) -> str: ...
    def classify(
        self,
        inputs: Any,
        embeds: bool,
        prune: str | None,
        sigmoid: bool,
        threshold: float | None,
        kept: bool,
        progress: Callable[[int, int | None], object] | None,
    ) -> dict[str, Any]: ...
    def rank(
        self,
        query: str,
        passages: Any,
        prune: str | None,
        top_n: int | None,
        windows: bool,
        label: str | None,
        progress: Callable[[int, int], object] | None,
    ) -> dict[str, Any]: ...
