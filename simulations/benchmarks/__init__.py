"""What a swap costs, measured on this machine beside what it cannot cost less than."""
