"""What the routes and the command line share: runs opened lazily, and answers as wire models."""
