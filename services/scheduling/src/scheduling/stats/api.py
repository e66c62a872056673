"""`/api/stats/`."""

from common.http.app import feature_router
from common.http.deps import CallerDep, SessionDep
from scheduling.clients.deps import NeighboursDep
from scheduling.stats import service
from scheduling.stats.schemas import Stats

router = feature_router("stats")


@router.get("/api/stats/monthly/")
async def get_monthly_stats(session: SessionDep, caller: CallerDep, neighbours: NeighboursDep) -> Stats:
    """Messages of the last 12 months, and the limits."""
    return await service.get_monthly_stats(session, neighbours, caller)
