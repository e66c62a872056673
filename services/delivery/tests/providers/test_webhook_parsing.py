"""Numbers of parts in webhooks, which some providers write as strings."""

import pytest

from delivery.providers.webhook_parsing import read_parts


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        *((given, 2) for given in (2, "2", " 2", "02")),
        *((given, 255) for given in (255, "255")),
        *((given, None) for given in (0, "0", -1, "-1", 256, "256", 1.0, "1.0", "", " ", "two", None, True, [], "٢")),
        ("9" * 5000, None),
    ],
)
def test_a_number_of_parts_is_read_as_a_number_or_as_its_digits(given: object, parts: int | None) -> None:
    assert read_parts(given) == parts
