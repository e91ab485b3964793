"""How differently a classifier treats groups of people: what is told of each group, and between the groups."""

from pydantic import BaseModel, ConfigDict, Field

from contracts.bias import Figure
from contracts.evals import Interval

FAIRNESS = "fairness"
"""The field of a metrics event that holds a `FairnessReport`."""
PAGE_FILE = "fairness.html"
"""Of the folder with a run's results."""
LEAST_ROWS = 30
"""Of a group. Fewer are warned of."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Rates(_Part):
    """Of one label in one group: the shares that get it of all rows, of those that have it, and of those that do not.

    None where the group has no such row.
    """

    selection_rate: Interval
    recall: Interval | None
    false_positive_rate: Interval | None


class LabelFairness(_Part):
    """Of one label, between the groups that differ most.

    The ratio is None where no row gets the label; equalized odds are None where a rate of some group is. A p-value is
    of a permutation of the groups, for equalized odds among the rows of the same right answer.
    """

    label: str
    groups: dict[str, Rates]
    demographic_parity_difference: Figure
    demographic_parity_p_value: float
    demographic_parity_ratio: Figure | None
    equalized_odds_difference: Figure | None
    equalized_odds_p_value: float | None


class FairnessReport(_Part):
    model: str
    sensitive: str = Field(description="The column that says the group of a row.")
    accuracy: dict[str, Interval] = Field(description="By group.")
    labels: tuple[LabelFairness, ...]
    warnings: tuple[str, ...]
