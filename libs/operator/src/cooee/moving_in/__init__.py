"""Reading an earlier system and writing it through the services: the tables, the conversion, the steps."""
