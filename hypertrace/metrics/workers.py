def checked_workers(w):
    import os
    v = os.environ.get("HYPERTRACE_WORKERS")
    if v is not None: return {"0":False,"auto":"auto","1":True}.get(v, v)
    return w
