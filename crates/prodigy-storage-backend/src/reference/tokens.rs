//! The fencing tokens that a lock gave out.

use super::Mismatch;

/// The newest fencing token that a lock gave out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokens {
    newest: u64,
}

impl Tokens {
    /// Records that a holder got this token.
    ///
    /// # Errors
    /// The token is not greater than all earlier ones.
    pub fn hand_out(&mut self, token: u64) -> Result<(), Mismatch> {
        if token <= self.newest {
            return Err(Mismatch::new(format!(
                "token {token} was handed out after {}",
                self.newest
            )));
        }
        self.newest = token;
        Ok(())
    }

    /// The newest token; 0 before the first one.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Checks the token that the store reports as the newest one.
    ///
    /// # Errors
    /// The model knows a newer token.
    pub fn check(&self, found: u64) -> Result<(), Mismatch> {
        if found >= self.newest {
            return Ok(());
        }
        Err(Mismatch::new(format!(
            "token {} was handed out, and the store names {found}",
            self.newest
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::Tokens;

    #[test]
    fn tokens_ascend() {
        let mut tokens = Tokens::default();
        tokens.check(0).unwrap();
        tokens.hand_out(2).unwrap();
        assert!(tokens.hand_out(2).is_err() && tokens.hand_out(1).is_err());
        tokens.hand_out(5).unwrap();
        assert_eq!(tokens.newest(), 5);
        tokens.check(7).unwrap();
        assert!(tokens.check(4).is_err());
    }
}
