//! `relay-node id --new`: a key of its own for a box that was copied from another one. What is in its rooms stays.

use std::{fs, io};

use crate::{
    addresses::Addresses,
    bridge::{Identity, IdentityError},
    config::Config,
};

/// The token that came by pairing: it is of the old key.
const TOKEN: &str = "zone.token";

/// Makes the key, prints the id, and says what is to be done with it.
///
/// # Errors
///
/// [`IdentityError`]: there is no new key.
pub fn run(config: &Config) -> Result<(), IdentityError> {
    let data = &config.data;
    let identity = Identity::renew(data)?;
    println!("{}", identity.node_id());
    eprintln!("this relay has a new key; the one before is in node.key.old. Its rooms are as they were");
    let token = data.join(TOKEN);
    match fs::rename(&token, data.join("zone.token.old")) {
        Ok(()) => {
            eprintln!("its zone token was of the old key: pair it again, or have one issued for this id")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!(
                "where the festival has zone tokens, have one issued for this id; where ids are trusted, trust it"
            );
        }
        Err(error) => eprintln!("remove {}, it is of the old key: {error}", token.display()),
    }
    if Addresses::running(data).is_some() {
        eprintln!("the relay that runs here has the old key until it is started again");
    }
    Ok(())
}
