"""relprop in the interfaces of other libraries, and their methods and metrics in ours."""
