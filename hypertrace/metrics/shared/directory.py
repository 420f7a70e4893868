import os, tempfile, shutil
class RunDirectory:
    def __init__(self, path): self.path=path; self.is_kept=False; self.root=None; self.pid=os.getpid()
def find(workers, *, name):
    if isinstance(workers,str) and workers!="auto":
        os.makedirs(workers, exist_ok=True); return RunDirectory(workers)
    return RunDirectory(tempfile.mkdtemp(prefix="hypertrace-", dir="/dev/shm"))
def remove_if_last(d, own):
    if os.getpid()==d.pid: shutil.rmtree(d.path, ignore_errors=True)
