"""What assets and sensors are handed, and what the Dagster instance is built on."""
