"""Records and the places that hold them: directory, tar stream, HDF5. Knows no algorithm."""
