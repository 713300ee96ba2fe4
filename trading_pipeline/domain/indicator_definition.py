"""What the library of indicators is made of: a definition with its parameters and their written form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trading_pipeline.domain.bars import BarTable, Floats
from trading_pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class Parameter:
    """A numeric parameter; `default` None means that it must be given, or that the library's own default holds."""

    name: str
    default: float | None
    low: float = 2
    high: float = 1000
    whole: bool = True

    def checked(self, value: float, owner: str) -> float:
        """The value in its type, or InputError when it is out of range or not whole."""
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            kind = "a whole number" if self.whole else "a number"
            raise InputError(
                f"The {self.name} of {owner} cannot be {value:g}.", value=value, rule=f"it is {kind} from {self.low:g} to {self.high:g}",
                remedy="choose a value in that range",
            )
        return int(value) if self.whole else float(value)


@dataclass(frozen=True, slots=True)
class Definition:
    """One indicator of the library.

    `outputs` names its columns' endings, "" for the bare name. `compute` takes clean bars and the parameters in
    order and gives one array an output. `memory` times the warm-up is the history after which the seed no longer
    shows (1: a finite window). `optional`: parameters left out are the library's business.
    """

    name: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    compute: Callable[[BarTable, Sequence[float]], Sequence[Floats]]
    memory: int = 1
    on_price_axis: bool = False
    optional: bool = False

    def settings(self, values: Sequence[float | None]) -> tuple[tuple[str, float], ...]:
        """Names and checked values, defaults filled in; InputError says which parameter is missing or too many."""
        if len(values) > len(self.parameters):
            takes = ", ".join(parameter.name for parameter in self.parameters) or "no parameters"
            raise InputError(
                f"{self.name} does not take {len(values)} parameters.", value=len(values), rule=f"it takes {takes}",
                remedy=f"leave out the last {len(values) - len(self.parameters)}",
            )
        settings: list[tuple[str, float]] = []
        gap = ""
        for index, parameter in enumerate(self.parameters):
            value = values[index] if index < len(values) else None
            value = parameter.default if value is None else value
            if value is None:
                if not self.optional:
                    raise InputError(
                        f"{self.name} needs its {parameter.name}.", value=self.name, rule=f"it is written {self.name}_{parameter.name}",
                        remedy=f"write for example {self.name}_20",
                    )
                gap = gap or parameter.name
                continue
            if gap:
                raise InputError(
                    f"{self.name} is given its {parameter.name} but not its {gap}.", value=value,
                    rule="parameters are given from the first on", remedy=f"give {gap} too",
                )
            settings.append((parameter.name, parameter.checked(value, self.name)))
        return tuple(settings)

    def text(self, values: Sequence[float | None]) -> str:
        """The written form of these parameters: a leading length always, others up to the last that is no default."""
        shown = 0
        for index, (parameter, value) in enumerate(zip(self.parameters, values, strict=False), start=1):
            if value is not None and (value != parameter.default or (index == 1 and parameter.name == "length")):
                shown = index
        return "_".join([self.name, *(format(value, "g") for value in values[:shown] if value is not None)])
