"""The commands of ``jaxnets``. Each reads its flags, calls the library and prints the result."""
