"""`/api/stats/`."""

from common.http.app import feature_router
from common.http.deps import CallerDep, SessionDep
from scheduling.clients.deps import ServicesDep
from scheduling.stats import service
from scheduling.stats.schemas import Stats, render_stats

router = feature_router("stats")


@router.get("/api/stats/monthly/")
async def get_monthly_stats(session: SessionDep, caller: CallerDep, services: ServicesDep) -> Stats:
    """Count the messages of the last 12 months. The answer has the monthly limits, too."""
    months, limits = await service.get_monthly_stats(session, services, caller)
    return render_stats(months, limits)
