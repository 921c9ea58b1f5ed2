"""The database: the only place that knows pymongo and how a job's fields change."""
