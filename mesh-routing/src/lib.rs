//! The mesh as a core without I/O: link-state, routes, media trees, logs, files.
//!
//! [`Mesh`] is the whole of it; `docs/mesh.md` is the manual of what relays say to each other. The crate
//! reads no clock and no socket: the driver in `relay-node` hands over messages with the time at which they
//! came and carries out what [`Mesh::poll_output`] says.
//!
//! A file imports from its own folder and from those to the left of it; folders that share a place do not import each
//! other. Tests may import [`sim`] and [`Mesh`].
//!
//! order: error changed | wire | linkstate blob interest opaque | route | link area | tree log | mesh | lib | sim | bin
//! impl: Mesh in mesh
//!
//! | folder | what |
//! |---|---|
//! | `error`, `changed` | why a message was not taken; what differs since a relay was last at rest |
//! | `wire` | every shape that crosses a link, with total parsers, and nothing else |
//! | `linkstate` | what all relays say of themselves, how it gets around, which publication is listed |
//! | `opaque` | messages that are passed on, known or not |
//! | `blob` | files by content: fetched, served, how fast |
//! | `interest` | who listens here, and who hears what in the mesh |
//! | `route` | shortest paths and what follows from them: detours, reverse paths, cuts, other areas |
//! | `link` | one link, one neighbor, which ones to have |
//! | `area` | the path vector between areas |
//! | `tree` | the feeds and children of each track |
//! | `log` | replicated logs and how their records get around |
//! | `mesh` | the only owner of all of it, the only `impl Mesh` |
//! | `sim` | whole meshes in virtual time |

pub mod area;
pub mod blob;
mod changed;
pub mod error;
mod interest;
pub mod link;
pub mod linkstate;
pub mod log;
pub mod mesh;
mod opaque;
pub mod route;
mod tree;
pub mod wire;

#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use area::border::AreaView;
pub use error::MeshError;
pub use link::{LinkCounters, LinkFigures, peer_selection, protection::Heard};
pub use log::{LogCounters, NotStored};
#[cfg(feature = "next")]
pub use mesh::next;
pub use mesh::{
    Mesh,
    config::Config,
    counters::{Counters, UnknownCounters},
    output::Output,
    views::{AsWhole, LinkView, NodeView, StreamView, Topology},
};
pub use tree::{forward::ForwardEntry, picture::PictureDemand, sound::SoundDemand, view::Refusals};
pub use wire::{
    area::{AreaId, Fragment},
    hearing::Hearing,
    label::{Label, Rid},
    log_entry::{Entry, LogEntry, LogKey},
    message,
    metric::{Capacity, LinkId, Underlay, UnderlayKind},
    rates::{AdvertisedEncoding, NominalRate, StreamRates},
    signature::{self, Keys, Signature},
};
