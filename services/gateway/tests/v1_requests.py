"""Requests of v1, with what a service gets and answers, and what the client of v1 gets."""

from dataclasses import dataclass, field
from typing import Any

PAGE = {"total": 1, "page": 1, "limit": 10, "totalPages": 1, "hasNext": False, "hasPrev": False}
AUDIT = {"created_by": 4, "updated_by": 4, "created_at": "2026-03-02T01:00:00.000Z", "updated_at": None}
V1_AUDIT = {"createdById": 4, "updatedById": 4, "createdAt": "2026-03-02T01:00:00.000Z", "updatedAt": None}
CONTACT = {"id": 7, "first_name": "Ana", "phone": "0491570006", "user": 3, "is_active": True, "opt_out": False, **AUDIT}
CUSTOMER = {
    "id": 7,
    "firstName": "Ana",
    "phone": "0491570006",
    "userId": 3,
    "active": True,
    "optOut": False,
    **V1_AUDIT,
}
SCHEDULE = {
    "id": 9,
    "template": 2,
    "contact": 7,
    "group": None,
    "group_schedule_id": 5,
    "parent": 5,
    "status": "DELETED",
}
V1_SCHEDULE = {
    "id": 9,
    "templateId": 2,
    "customerId": 7,
    "groupId": None,
    "groupScheduleId": 5,
    "parent": 5,
    "status": "DELETED",
}
WHEN = "2026-03-02T09:00:00+10:30"


@dataclass
class Recorded:
    """A request of v1, the request that a service gets, and the same answer before and after the translation."""

    method: str
    path: str
    target: str
    answer: Any
    v1_answer: Any
    body: Any = None
    target_body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


RECORDED = [
    Recorded(
        *("GET", "/customers?search=ana&excludeGroupId=3"),
        "/api/contacts/?search=ana&exclude_group_id=3&limit=10",
        {"results": [CONTACT], "pagination": PAGE},
        {"data": [CUSTOMER], "pagination": PAGE},
    ),
    Recorded(
        *("POST", "/customers", "/api/contacts/", CONTACT, CUSTOMER),
        {"firstName": "Ana", "phone": "0491 570 006", "userId": 3, "active": True, "optOut": False, "shoeSize": 38},
        {"first_name": "Ana", "phone": "0491 570 006", "user": 3, "is_active": True, "opt_out": False, "shoe_size": 38},
        201,
    ),
    Recorded("GET", "/customers/7", "/api/contacts/7/", CONTACT, CUSTOMER),
    Recorded("PUT", "/customers/7", "/api/contacts/7/", CONTACT, CUSTOMER, {"optOut": True}, {"opt_out": True}),
    Recorded(
        *("GET", "/customers/7/schedules?page=2", "/api/contacts/7/schedules/?page=2&limit=50&status_format=v1"),
        {"results": [SCHEDULE], "pagination": PAGE},
        {"data": [V1_SCHEDULE], "pagination": PAGE},
    ),
    Recorded(
        *("GET", "/groups?limit=20", "/api/groups/?limit=20"),
        {"results": [{"id": 3, "is_active": True, "member_count": 2}], "pagination": PAGE},
        {"data": [{"id": 3, "active": True, "memberCount": 2}], "pagination": PAGE},
    ),
    Recorded(
        *("GET", "/groups/3", "/api/groups/3/?limit=10"),
        {"id": 3, "members": {"results": [CONTACT], "pagination": PAGE}},
        {"id": 3, "members": {"data": [CUSTOMER], "pagination": PAGE}},
    ),
    Recorded(
        *("POST", "/groups/3/customers", "/api/groups/3/members/"),
        *({"added": 1, "member_count": 2}, {"added": 1, "memberCount": 2}),
        *({"customerIds": [7]}, {"contact_ids": [7]}),
    ),
    Recorded(
        *("DELETE", "/groups/3/customers", "/api/groups/3/members/"),
        *({"removed": 1, "member_count": 1}, {"removed": 1, "memberCount": 1}),
        *({"customerIds": [7]}, {"contact_ids": [7]}),
    ),
    Recorded(
        *("GET", "/templates", "/api/templates/?limit=10"),
        {"results": [{"id": 2, "version": 1, "is_active": True}], "pagination": PAGE},
        {"data": [{"id": 2, "version": 1, "active": True}], "pagination": PAGE},
    ),
    Recorded(
        *("GET", "/schedules?date=2026-03-02&status=PENDING,DELETED"),
        "/api/schedules/?date=2026-03-02&status=PENDING,DELETED&limit=50&status_format=v1",
        {"results": [], "pagination": PAGE},
        {"data": [], "pagination": PAGE},
    ),
    Recorded(
        *("POST", "/schedules", "/api/schedules/?status_format=v1", SCHEDULE, V1_SCHEDULE),
        {"customerId": 7, "templateId": 2, "scheduledTime": WHEN, "mediaUrl": None},
        {"contact_id": 7, "template_id": 2, "scheduled_time": WHEN, "media_url": None},
        201,
    ),
    Recorded(
        *("GET", "/group-schedules?groupId=3", "/api/group-schedules/?group_id=3&limit=50&status_format=v1"),
        {"results": [{"id": 5, "group": 3, "group_name": "VIP", "child_count": 2}], "pagination": PAGE},
        {"data": [{"id": 5, "groupId": 3, "groupName": "VIP", "childCount": 2}], "pagination": PAGE},
    ),
    Recorded(
        *("GET", "/group-schedules/5", "/api/group-schedules/5/?limit=50&status_format=v1"),
        {"id": 5, "schedules": [SCHEDULE], "counts": {"PENDING": 0, "DELETED": 1}},
        {"id": 5, "schedules": [V1_SCHEDULE], "counts": {"PENDING": 0, "DELETED": 1}},
    ),
    Recorded(
        *("POST", "/group-schedules", "/api/group-schedules/?status_format=v1", {"id": 5}, {"id": 5}),
        *({"name": "Sale", "groupId": 3, "text": "Hi"}, {"name": "Sale", "group_id": 3, "text": "Hi"}, 201),
    ),
    Recorded("GET", "/me", "/api/users/me/", {"clerk_id": "user_1"}, {"clerkId": "user_1"}),
    Recorded(
        *("GET", "/stats/monthly", "/api/stats/monthly/"),
        {"monthly_stats": [{"month": "2026-03", "sms_sent": 4}], "sms_limit": None},
        {"monthlyStats": [{"month": "2026-03", "smsSent": 4}], "smsLimit": None},
    ),
    Recorded(
        *("POST", "/sms/send", "/api/sms/send/"),
        {"success": True, "schedule_id": 9, "status": "processing"},
        {"success": True, "scheduleId": 9, "status": "PENDING"},
        *({"message": "Hi", "recipient": "0491570006", "contactId": 7},),
        *({"message": "Hi", "recipient": "0491570006", "contact_id": 7}, 202),
    ),
    Recorded(
        *("POST", "/sms/send-to-group", "/api/sms/send-to-group/"),
        {"results": {"successful": 2, "failed": 0, "total": 2}, "group_name": "VIP", "group_schedule_id": 5},
        {"results": {"successful": 2, "failed": 0, "total": 2}, "groupName": "VIP", "groupScheduleId": 5},
        *({"message": "Hi", "groupId": 3}, {"message": "Hi", "group_id": 3}, 202),
    ),
    Recorded(
        *("POST", "/sms/send-mms", "/api/sms/send-mms/", {"status": "sent"}, {"status": "SENT"}),
        *({"message": "", "mediaUrl": "https://a.test/b.png"}, {"message": "", "media_url": "https://a.test/b.png"}),
    ),
]
