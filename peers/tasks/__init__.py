"""What a swarm trains: the Task interface, the built-in tasks, and loading one by its name."""
