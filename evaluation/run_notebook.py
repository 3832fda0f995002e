"""papermill's command line, with kernels that are reached through files and not over TCP.

    python -m evaluation.run_notebook NOTEBOOK COPY [papermill's options]

ipykernel warns of TCP, over which other users of the machine could listen. Source:
https://jupyter-client.readthedocs.io/en/stable/api/jupyter_client.html#jupyter_client.manager.KernelManager.transport
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from papermill.cli import papermill
from papermill.engines import NBClientEngine, papermill_engines
from traitlets.config import Config


class LocalEngine(NBClientEngine):
    """papermill's own engine with the kernel manager's transport `ipc`, its sockets in a temporary folder."""

    @classmethod
    def execute_managed_notebook(cls, *arguments, **options):
        with TemporaryDirectory() as folder:
            config = Config(KernelManager={"transport": "ipc", "ip": str(Path(folder) / "kernel")})
            return super().execute_managed_notebook(*arguments, config=config, **options)


if __name__ == "__main__":
    papermill_engines.register(None, LocalEngine)
    papermill()
