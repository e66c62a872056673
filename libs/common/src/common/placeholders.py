"""The placeholder fields: the values of a contact that a text may name, such as `{{first_name}}`.

Contacts fills `ContactState.fields` by this list, and scheduling accepts the placeholders that it names.
"""

PLACEHOLDERS = ("first_name", "last_name", "company")
