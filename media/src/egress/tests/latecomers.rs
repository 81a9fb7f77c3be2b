//! Latecomers that begin, stop and begin again.

use std::time::Duration;

use super::stage::Stage;
use crate::track::id::TrackId;

const PICTURE: TrackId = TrackId(0);

#[test]
fn who_begins_again_while_a_picture_leaves_gets_no_number_twice() {
    let mut stage = Stage::new();
    stage.bring_picture(PICTURE, 240_000, true);
    let viewer = stage.viewer(None, true);
    assert!(stage.catch_up(viewer, PICTURE));
    stage.run(Duration::from_millis(5));
    stage.stop(viewer);
    stage.turn(viewer, PICTURE);
    assert!(stage.catch_up(viewer, PICTURE));
    stage.run(Duration::from_millis(100));
    let left = stage.viewers.0[viewer].pictures();
    let again: Vec<u16> = left.iter().skip(96).map(|(_, number)| *number).collect();
    assert!(again.into_iter().eq(0..200), "{left:?}");
}
