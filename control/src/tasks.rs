//! Tasks of a configuration, one per backend of a service: changes start and stop them.

use std::collections::BTreeMap;

use tokio::task::AbortHandle;

use crate::health::BackendKey;

/// Tasks that run until removed or dropped. `T` describes a task.
pub struct Tasks<T> {
    running: BTreeMap<BackendKey, Running<T>>,
}

struct Running<T> {
    job: T,
    task: AbortHandle,
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self { running: BTreeMap::new() }
    }
}

impl<T: PartialEq> Tasks<T> {
    /// Runs exactly these from now on; unchanged ones continue.
    pub fn apply(
        &mut self,
        wanted: impl IntoIterator<Item = (BackendKey, T)>,
        start: impl Fn(&BackendKey, &T) -> AbortHandle,
    ) {
        let mut before = std::mem::take(&mut self.running);
        for (key, job) in wanted {
            let same = before.remove(&key).filter(|running| running.job == job);
            let running = same.unwrap_or_else(|| Running { task: start(&key, &job), job });
            self.running.insert(key, running);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn handle(&self, key: &BackendKey) -> &AbortHandle {
        &self.running[key].task
    }
}
