"""One function a command: it decides upon a working set, without a store and without a wire."""
