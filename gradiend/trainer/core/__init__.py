"""Arguments, callbacks, batches, optimizer and loop: independent of the modality."""
