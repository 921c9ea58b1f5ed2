"""What runs inside a worker process, and the bytes that cross the line to it. Free of any database client."""
