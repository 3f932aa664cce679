"""How the tables of the graph database came to be, one file a step; alembic runs them in order.

A new step is a new file in ``versions`` and a new entry of ``storage.graph_schema.VERSIONS``. Steps that
were published are never changed, and import nothing of ours, because what they import may change.
"""
