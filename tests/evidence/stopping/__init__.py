"""The stop drill's world, its measurements, and its faults."""
