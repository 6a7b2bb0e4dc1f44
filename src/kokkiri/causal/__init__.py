"""What would happen if we acted: graphs, identification, effects, refutation, sensitivity."""
