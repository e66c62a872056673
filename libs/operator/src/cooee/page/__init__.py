"""The operators' page: the commands as web pages, for operators who are signed in with Clerk. It has no SQL."""
