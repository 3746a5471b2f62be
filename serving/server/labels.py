"""Which version does a label name? The labels of a configuration, checked before they are taken over."""

from collections.abc import Callable, Collection, Mapping

from serving.server.status import Code, StatusError, invalid


class Labels:
    """The labels of all models: name of the model -> label -> version.

    A label moves to a version only when that one can answer.

    Args:
      may_be_unavailable: a label that is new, or stays where it is, may name a version that cannot answer yet.
    """

    def __init__(self, may_be_unavailable: bool = False) -> None:
        self._may_be_unavailable = may_be_unavailable
        self._numbers: Mapping[str, Mapping[str, int]] = {}

    def number(self, name: str, label: str) -> int:
        """The version that a label names.

        Raises:
          StatusError: INVALID_ARGUMENT, also for a model that is not known.
        """
        try:
            return self._numbers[name][label]
        except KeyError:
            raise invalid(f"Unrecognized servable version label: {label}") from None

    def check(self, numbers: Mapping[str, Mapping[str, int]], available: Callable[[str], Collection[int]]) -> None:
        """Says whether `assign` may be called.

        Args:
          numbers: the labels of the new configuration.
          available: tells the versions of a model that can answer now.

        Raises:
          StatusError: FAILED_PRECONDITION, a label would name a version that cannot answer.
        """
        for name, labels in numbers.items():
            for label, number in labels.items():
                if number in available(name):
                    continue
                old = self._numbers.get(name, {}).get(label, number)
                if not self._may_be_unavailable or old != number:
                    raise StatusError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {name}, which is not currently "
                        "available for inference",
                    )

    def assign(self, numbers: Mapping[str, Mapping[str, int]]) -> None:
        """Takes over the labels of a configuration in place of all others."""
        self._numbers = numbers
