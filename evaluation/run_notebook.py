"""papermill's command line, with kernels that are reached through files and not over TCP.

    python -m evaluation.run_notebook NOTEBOOK COPY [papermill's options]

ipykernel warns of TCP, over which other users of the machine could listen. Source:
https://jupyter-client.readthedocs.io/en/stable/api/jupyter_client.html#jupyter_client.manager.KernelManager.transport
"""

from papermill.cli import papermill
from papermill.engines import NBClientEngine, papermill_engines
from traitlets.config import Config


class LocalEngine(NBClientEngine):
    """papermill's own engine with the kernel manager's transport `ipc`."""

    @classmethod
    def execute_managed_notebook(cls, *arguments, **options):
        config = Config(KernelManager={"transport": "ipc"})
        return super().execute_managed_notebook(*arguments, config=config, **options)


if __name__ == "__main__":
    papermill_engines.register(None, LocalEngine)
    papermill()
