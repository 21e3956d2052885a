"""The library of the course book *Beyond Docker, Beyond Lambda*.

Three floors, each importing only from the floors under it:

* ``beyondlab.kit``: processes, machine capabilities, recordings, figures, exercise checks;
* ``beyondlab.sim``: arrivals, workloads, the keep-alive kernel, closed forms;
* one package a chapter, such as ``beyondlab.functions`` for "AWS Lambda and its cold starts".
"""

__version__ = "0.4.0"
