"""What to do: costs, thresholds, prevalence, errors of both types, the value of a further test."""
