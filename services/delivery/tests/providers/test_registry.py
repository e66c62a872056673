"""Every provider of the registry has what its addition needs: tests, the handset, and its places in the pages."""

import re
from pathlib import Path

import pytest

from delivery.providers import PROVIDERS
from tools.handset.server import PROVIDERS as EMULATED

from .contract import repository_rehearsals
from .test_settings import GIVEN

ROOT = Path(__file__).resolve().parents[4]
# The provider `log` only writes to the log, so it has no settings and no server.
REAL = [name for name in PROVIDERS if name != "log"]
PAGES = {
    "README.md": ["`{name}`", "`{prefix}_…`"],
    "services/delivery/README.md": ["`{prefix}_…`"],
    "docs/providers.md": ["| `{name}` |", "{prefix}_BASE_URL"],
    "tools/handset/README.md": ["| `{name}.py` |"],
    ".env.example": ["{prefix}_SENDER_ID"],
}


def test_every_provider_is_in_the_tables_of_the_tests() -> None:
    assert {rehearsal.provider.name for rehearsal in repository_rehearsals()} == set(REAL), "add it to contract.py"
    assert set(GIVEN) == set(REAL), "add what it requires to GIVEN in test_settings.py"


def test_the_handset_plays_every_provider() -> None:
    assert {emulated.name for emulated in EMULATED} == set(REAL), "add it to PROVIDERS in tools/handset/server.py"
    for emulated in EMULATED:
        assert all(name.startswith(f"{emulated.name.upper()}_") for name in (*emulated.embedded, *emulated.generated))


@pytest.mark.parametrize("name", REAL)
def test_a_provider_has_a_test_of_its_wire_format(name: str) -> None:
    assert (Path(__file__).parent / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_every_provider(page: str, name: str) -> None:
    text = (ROOT / page).read_text()
    missing = [
        wanted for template in PAGES[page] if (wanted := template.format(name=name, prefix=name.upper())) not in text
    ]
    assert not missing


@pytest.mark.parametrize("page", ["docs/providers.md", "tools/handset/README.md"])
def test_a_page_about_the_providers_does_not_count_them(page: str) -> None:
    """A number would be wrong after the next provider, and no test could find it."""
    number = r"(?:two|three|four|five|six|seven)"
    assert not re.search(rf"\b(?:{number} providers|all {number})\b", (ROOT / page).read_text(), re.IGNORECASE)
