"""The decision, pure: no await, clock, environment, log or metric. Time and keys are arguments."""
