def predict(case, config):
    return None
