//! The tasks that a configuration asks for, one for a backend of a service: started and stopped by what changed in it.

use std::collections::BTreeMap;

use tokio::task::AbortHandle;

use crate::health::BackendKey;

/// Tasks that run until they are asked for no more, or this is dropped. `T` is what a task does.
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
    /// Runs exactly these from now on. One whose job is the same goes on undisturbed.
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
