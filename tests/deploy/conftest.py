"""The rendered overlays."""

import pytest

from .manifests import FOLDER, OVERLAYS, Manifests, render


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """The manifests of each overlay."""
    return render(FOLDER / "overlays" / request.param)
