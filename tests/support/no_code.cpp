// Precompiled headers belong to a target, and that has a source.
