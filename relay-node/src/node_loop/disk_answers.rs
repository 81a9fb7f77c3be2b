//! What the disk of records has not answered yet, in the order in which it was asked. What waits for an answer is
//! the mesh's business.

use std::collections::VecDeque;

use mesh_routing::NotStored;
use tokio::sync::oneshot;

/// The answers that will come.
#[derive(Debug, Default)]
pub(super) struct DiskAnswers(VecDeque<oneshot::Receiver<Result<(), NotStored>>>);

impl DiskAnswers {
    /// The disk was asked once more.
    pub fn expect(&mut self, answer: oneshot::Receiver<Result<(), NotStored>>) {
        self.0.push_back(answer);
    }

    /// Waits for the next answer; for ever if none will come. Nothing is lost if this is dropped while it waits.
    ///
    /// # Errors
    ///
    /// [`NotStored`] if the record is not on disk.
    pub async fn next(&mut self) -> Result<(), NotStored> {
        let Some(first) = self.0.front_mut() else { return std::future::pending().await };
        let answer = first.await.unwrap_or(Err(NotStored::Failed));
        self.0.pop_front();
        answer
    }
}
