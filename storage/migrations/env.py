"""Run by alembic only: migrates inside the transaction that ``storage.database`` has begun."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
