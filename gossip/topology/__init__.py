"""WITH WHOM a peer swaps: schedules, pure functions of the member list."""
