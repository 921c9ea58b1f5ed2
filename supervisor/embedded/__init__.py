"""The private local MongoDB behind `mongo.uri = "embedded"`."""
