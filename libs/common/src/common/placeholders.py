"""The contact fields that a message can contain as placeholders, such as `{{first_name}}`."""

PLACEHOLDERS = ("first_name", "last_name", "company")
