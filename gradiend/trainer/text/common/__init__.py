"""What every text trainer shares."""
