"""Variants of the legacy database in tests/legacy, each with one difference.

`ACCEPTED`: adoption repairs or tolerates the difference, and the app works afterwards.
`REFUSED`: adoption names the table, the column or object, and what to do; nothing is written.
"""

# Groups of differences that can exist together, so that few databases are needed.
ACCEPTED = {
    "columns missing": {
        "users.login_method missing": "ALTER TABLE users DROP COLUMN login_method",
        "users.image_url missing": "ALTER TABLE users DROP COLUMN image_url",
        "users.name missing": "ALTER TABLE users DROP COLUMN name",
        "users.role missing": "ALTER TABLE users DROP COLUMN role; DROP TYPE role",
        "users times missing": "ALTER TABLE users DROP COLUMN created_at, DROP COLUMN updated_at",
        "users.last_signed_in missing": "ALTER TABLE users DROP COLUMN last_signed_in",
        "mentorados.foto_url missing": "ALTER TABLE mentorados DROP COLUMN foto_url",
        "mentorados.meta_stories missing": "ALTER TABLE mentorados DROP COLUMN meta_stories",
        "mentorados goals missing": """ALTER TABLE mentorados DROP COLUMN meta_faturamento,
        DROP COLUMN meta_leads, DROP COLUMN meta_procedimentos, DROP COLUMN meta_posts""",
        "mentorados.ativo missing": """ALTER TABLE mentorados DROP COLUMN ativo; DROP TYPE ativo""",
        "mentorados.onboarding_completed missing": """
        ALTER TABLE mentorados DROP COLUMN onboarding_completed""",
        "mentorados.updated_at missing": "ALTER TABLE mentorados DROP COLUMN updated_at",
        "metricas.observacoes missing": "ALTER TABLE metricas_mensais DROP COLUMN observacoes",
        "metricas.stories missing": "ALTER TABLE metricas_mensais DROP COLUMN stories",
        "metricas goals missing": """ALTER TABLE metricas_mensais DROP COLUMN meta_faturamento,
        DROP COLUMN meta_leads, DROP COLUMN meta_posts""",
        "metricas.updated_at missing": "ALTER TABLE metricas_mensais DROP COLUMN updated_at",
        "feedbacks.created_at missing": "ALTER TABLE feedbacks DROP COLUMN created_at",
    },
    "month tables missing": {
        "both month tables missing": "DROP TABLE feedbacks, metricas_mensais",
    },
    "one table missing, defaults": {
        "metricas_mensais missing": "DROP TABLE metricas_mensais",
        "users.role without default": "ALTER TABLE users ALTER COLUMN role DROP DEFAULT",
        "users.created_at without default": """
        ALTER TABLE users ALTER COLUMN created_at DROP DEFAULT""",
        "mentorados.meta_faturamento without default": """
        ALTER TABLE mentorados ALTER COLUMN meta_faturamento DROP DEFAULT""",
        "mentorados.meta_leads without default": """
        ALTER TABLE mentorados ALTER COLUMN meta_leads DROP DEFAULT""",
        "mentorados.ativo inactive by default": """
        ALTER TABLE mentorados ALTER COLUMN ativo SET DEFAULT 'nao'""",
        "feedbacks.created_at by timezone()": """
        ALTER TABLE feedbacks ALTER COLUMN created_at SET DEFAULT timezone('utc', now())""",
        "sequence of smaller numbers": "ALTER SEQUENCE users_id_seq AS smallint",
        "further columns": """
        ALTER TABLE users ADD COLUMN apelido text, ADD COLUMN pontos int DEFAULT 3""",
        "row-level security for others": """ALTER TABLE mentorados ENABLE ROW LEVEL SECURITY;
        ALTER TABLE mentorados FORCE ROW LEVEL SECURITY""",
        "a view of the tables": "CREATE VIEW nomes AS SELECT name, email FROM users",
    },
    "another table missing, nullable": {
        "feedbacks missing": "DROP TABLE feedbacks",
        "users.created_at with CURRENT_TIMESTAMP": """
        ALTER TABLE users ALTER COLUMN created_at SET DEFAULT CURRENT_TIMESTAMP""",
        "users times nullable": """ALTER TABLE users ALTER COLUMN created_at DROP NOT NULL,
        ALTER COLUMN updated_at DROP NOT NULL, ALTER COLUMN last_signed_in DROP NOT NULL""",
        "users.clerk_id nullable": "ALTER TABLE users ALTER COLUMN clerk_id DROP NOT NULL",
        "users.role nullable": "ALTER TABLE users ALTER COLUMN role DROP NOT NULL",
        "mentorados.nome_completo nullable": """
        ALTER TABLE mentorados ALTER COLUMN nome_completo DROP NOT NULL""",
        "mentorados.turma nullable": "ALTER TABLE mentorados ALTER COLUMN turma DROP NOT NULL",
        "metricas counts without default": """
        ALTER TABLE metricas_mensais ALTER COLUMN faturamento DROP DEFAULT,
        ALTER COLUMN lucro DROP DEFAULT, ALTER COLUMN stories DROP DEFAULT""",
        "metricas.faturamento nullable": """
        ALTER TABLE metricas_mensais ALTER COLUMN faturamento DROP NOT NULL""",
        "metricas.mentorado_id nullable": """
        ALTER TABLE metricas_mensais ALTER COLUMN mentorado_id DROP NOT NULL""",
        "profiles already unique": """DELETE FROM mentorados WHERE id IN (10, 12, 14);
        CREATE UNIQUE INDEX mentorados_user_id_unique_idx ON mentorados (user_id)""",
    },
    "sequences": {
        "users sequence behind": "ALTER SEQUENCE users_id_seq RESTART WITH 1",
        "metricas sequence behind": "ALTER SEQUENCE metricas_mensais_id_seq RESTART WITH 1",
        "feedbacks sequence behind": "ALTER SEQUENCE feedbacks_id_seq RESTART WITH 1",
        "sequence that no column owns": "ALTER SEQUENCE mentorados_id_seq OWNED BY NONE;"
        "ALTER SEQUENCE mentorados_id_seq RESTART WITH 10",
        "feedbacks texts nullable": """ALTER TABLE feedbacks ALTER COLUMN analise_mes DROP NOT NULL,
        ALTER COLUMN sugestao_mentor DROP NOT NULL""",
        "extra label that no row has": "ALTER TYPE role ADD VALUE 'superadmin'",
        "extra class that no row has": "ALTER TYPE turma ADD VALUE 'ouro'",
    },
    "identities": {
        "identity by default": """ALTER TABLE mentorados ALTER COLUMN id DROP DEFAULT;
        ALTER TABLE mentorados ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY""",
        "identity always, behind": """ALTER TABLE users ALTER COLUMN id DROP DEFAULT;
        ALTER TABLE users ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START WITH 2)""",
        "metricas unique including more": """DROP INDEX metricas_mentorado_periodo_idx;
        CREATE UNIQUE INDEX com_mais ON metricas_mensais (mentorado_id, ano, mes)
        INCLUDE (faturamento)""",
        "feedbacks unique by constraint": """DROP INDEX feedbacks_mentorado_periodo_idx;
        ALTER TABLE feedbacks ADD UNIQUE (mentorado_id, ano, mes)""",
        "times with three digits": """ALTER TABLE users ALTER COLUMN created_at TYPE timestamp(3),
        ALTER COLUMN updated_at TYPE timestamptz(3)""",
    },
    "keys": {
        "one sequence for two tables": """
        ALTER TABLE mentorados ALTER COLUMN id SET DEFAULT nextval('users_id_seq');
        ALTER SEQUENCE users_id_seq RESTART WITH 4""",
        "users.clerk_id without unique key": """
        ALTER TABLE users DROP CONSTRAINT users_clerk_id_key;
        DROP INDEX users_clerk_id_idx""",
        "metricas without unique key": "DROP INDEX metricas_mentorado_periodo_idx",
        "unique index that allows more": """
        CREATE UNIQUE INDEX a_mais ON metricas_mensais (mentorado_id, ano, mes, faturamento)""",
        "additional unique column": "ALTER TABLE mentorados ADD COLUMN codigo varchar(8) UNIQUE",
        "additional unique uuid column": """
        ALTER TABLE mentorados ADD COLUMN publico uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()""",
        "additional unique index in lower case": """
        ALTER TABLE mentorados ADD COLUMN apelido text;
        CREATE UNIQUE INDEX um_apelido ON mentorados (lower(apelido))""",
        "mentorados.user_id without foreign key": """
        ALTER TABLE mentorados DROP CONSTRAINT mentorados_user_id_fkey""",
        "metricas without foreign key": """
        ALTER TABLE metricas_mensais DROP CONSTRAINT metricas_mensais_mentorado_id_fkey""",
        "feedbacks foreign key not valid": """
        ALTER TABLE feedbacks DROP CONSTRAINT feedbacks_mentorado_id_fkey;
        ALTER TABLE feedbacks ADD FOREIGN KEY (mentorado_id) REFERENCES mentorados
        ON DELETE CASCADE NOT VALID""",
        "longer varchar": "ALTER TABLE mentorados ALTER COLUMN nome_completo TYPE varchar(400)",
        "small months and years": """ALTER TABLE metricas_mensais ALTER COLUMN mes TYPE smallint,
        ALTER COLUMN ano TYPE smallint; ALTER TABLE feedbacks ALTER COLUMN mes TYPE smallint""",
    },
    "keys by other names": {
        "mentorados sequence behind": "ALTER SEQUENCE mentorados_id_seq RESTART WITH 10",
        "one of two unique keys of clerk_id": "DROP INDEX users_clerk_id_idx",
        "metricas unique in another order": """DROP INDEX metricas_mentorado_periodo_idx;
        CREATE UNIQUE INDEX por_periodo ON metricas_mensais (ano, mes, mentorado_id)""",
        "profiles unique under another name": """DELETE FROM mentorados WHERE id IN (10, 12, 14);
        ALTER TABLE mentorados ADD UNIQUE (user_id)""",
        "deferrable foreign key": """
        ALTER TABLE metricas_mensais DROP CONSTRAINT metricas_mensais_mentorado_id_fkey;
        ALTER TABLE metricas_mensais ADD FOREIGN KEY (mentorado_id) REFERENCES mentorados
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED""",
        "foreign key of another table to another column": """
        ALTER TABLE mentorados ADD COLUMN codigo varchar(8) UNIQUE;
        UPDATE mentorados SET codigo = 'M' || id;
        CREATE TABLE cartoes (id serial PRIMARY KEY, codigo varchar(8)
                              REFERENCES mentorados (codigo) ON DELETE CASCADE, nota text);
        INSERT INTO cartoes (codigo, nota)
        SELECT codigo, nome_completo FROM mentorados WHERE id IN (10, 11, 13)""",
        "times with time zone": """ALTER TABLE users ALTER COLUMN created_at TYPE timestamptz,
        ALTER COLUMN last_signed_in TYPE timestamptz""",
        "bigint ids": """ALTER TABLE users ALTER COLUMN id TYPE bigint;
        ALTER TABLE mentorados ALTER COLUMN id TYPE bigint, ALTER COLUMN user_id TYPE bigint;
        ALTER TABLE metricas_mensais ALTER COLUMN id TYPE bigint,
        ALTER COLUMN mentorado_id TYPE bigint""",
        "bigint figures": """ALTER TABLE metricas_mensais ALTER COLUMN faturamento TYPE bigint,
        ALTER COLUMN lucro TYPE bigint""",
    },
    "additional objects": {
        "texts instead of varchar": """ALTER TABLE users ALTER COLUMN clerk_id TYPE text,
        ALTER COLUMN email TYPE text, ALTER COLUMN login_method TYPE text;
        ALTER TABLE mentorados ALTER COLUMN nome_completo TYPE text, ALTER COLUMN email TYPE text,
        ALTER COLUMN foto_url TYPE text""",
        "further NOT NULL column with default": """
        ALTER TABLE mentorados ADD COLUMN origem text NOT NULL DEFAULT 'site'""",
        "additional generated column": """
        ALTER TABLE mentorados ADD COLUMN nome_maiusculo text
        GENERATED ALWAYS AS (upper(nome_completo)) STORED""",
        "additional identity column": """
        ALTER TABLE mentorados ADD COLUMN numero bigint GENERATED ALWAYS AS IDENTITY""",
        "check constraint of the app already exists": """
        ALTER TABLE metricas_mensais ADD CONSTRAINT metricas_mensais_mes_check
        CHECK (mes BETWEEN 1 AND 12)""",
        "trigger that keeps updated_at": """
        CREATE FUNCTION agora() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
        CREATE TRIGGER agora BEFORE UPDATE ON mentorados
        FOR EACH ROW EXECUTE FUNCTION agora()""",
        "trigger that writes a journal": """
        CREATE TABLE diario (id serial PRIMARY KEY, tabela text, conteudo jsonb);
        CREATE FUNCTION anotar() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO diario (tabela, conteudo) VALUES (TG_TABLE_NAME, to_jsonb(NEW));
           RETURN NEW; END $$;
        CREATE TRIGGER anotar AFTER INSERT OR UPDATE ON users
        FOR EACH ROW EXECUTE FUNCTION anotar()""",
        "function of another signature with a name of the app": """
        CREATE FUNCTION normalized_address(address text, extra int) RETURNS text
        LANGUAGE sql AS $$ SELECT address $$""",
        "another schema on the search path": """
        CREATE SCHEMA outro; CREATE TABLE outro.users (id int, apelido text)""",
        "comments and statistics": """COMMENT ON COLUMN users.email IS 'e-mail';
        CREATE STATISTICS juntos ON ano, mes FROM metricas_mensais""",
        "blank names": "UPDATE mentorados SET nome_completo = '  ' WHERE id = 11; "
        "UPDATE users SET name = '' WHERE id = 1",
        "loss in a month": "UPDATE metricas_mensais SET lucro = -4000 WHERE mentorado_id = 11",
        "goal of zero": """
        UPDATE mentorados SET meta_faturamento = 0, meta_leads = NULL WHERE id = 11""",
        "many rows of one profile": """
        INSERT INTO metricas_mensais (mentorado_id, ano, mes)
        SELECT 11, 2000 + n / 12, mod(n, 12) + 1 FROM generate_series(0, 290) n""",
    },
    "no rows": {
        "no rows": "TRUNCATE users, mentorados, metricas_mensais, feedbacks CASCADE",
        "long enough limits": """ALTER TABLE users ALTER COLUMN name TYPE varchar(255),
        ALTER COLUMN image_url TYPE varchar(500);
        ALTER TABLE feedbacks ALTER COLUMN analise_mes TYPE varchar(5000)""",
        "check constraint that writes of the app satisfy": """
        ALTER TABLE metricas_mensais ADD CHECK (faturamento >= 0), ADD CHECK (mes > 0);
        ALTER TABLE users ADD CHECK (clerk_id <> '')""",
    },
}
REFUSED = {
    # Missing, without a possible replacement.
    "users.clerk_id missing": (
        "ALTER TABLE users DROP COLUMN clerk_id CASCADE",
        "users.clerk_id",
    ),
    "users.id missing": ("ALTER TABLE users DROP COLUMN id CASCADE", "users.id"),
    "mentorados.user_id missing": (
        "ALTER TABLE mentorados DROP COLUMN user_id CASCADE",
        "mentorados.user_id",
    ),
    "mentorados.nome_completo missing": (
        "ALTER TABLE mentorados DROP COLUMN nome_completo",
        "mentorados.nome_completo",
    ),
    "mentorados.turma missing": (
        "ALTER TABLE mentorados DROP COLUMN turma; DROP TYPE turma",
        "mentorados.turma",
    ),
    "metricas.ano missing": (
        "ALTER TABLE metricas_mensais DROP COLUMN ano CASCADE",
        "metricas_mensais.ano",
    ),
    "feedbacks.analise_mes missing": (
        "ALTER TABLE feedbacks DROP COLUMN analise_mes",
        "feedbacks.analise_mes",
    ),
    "mentorados missing": (
        """DROP TABLE mentorados, metricas_mensais, feedbacks, diagnosticos, interacoes,
        atividade_progress""",
        "mentorados",
    ),
    "users missing": ("DROP TABLE users CASCADE", "users"),
    # Other names.
    "column in camel case": (
        'ALTER TABLE users RENAME COLUMN image_url TO "imageUrl"',
        'RENAME COLUMN "imageUrl" TO image_url',
    ),
    "column in upper case": (
        'ALTER TABLE mentorados RENAME COLUMN email TO "Email"',
        'RENAME COLUMN "Email" TO email',
    ),
    "table in upper case": ('ALTER TABLE feedbacks RENAME TO "Feedbacks"', "Feedbacks"),
    # Types.
    "ids are uuid": (
        """ALTER TABLE metricas_mensais DROP COLUMN id;
        ALTER TABLE metricas_mensais ADD COLUMN id uuid PRIMARY KEY DEFAULT gen_random_uuid()""",
        "metricas_mensais.id",
    ),
    "ids are text": (
        """ALTER TABLE feedbacks ALTER COLUMN id DROP DEFAULT;
        ALTER TABLE feedbacks ALTER COLUMN id TYPE text""",
        "feedbacks.id",
    ),
    "figures are numeric": (
        "ALTER TABLE metricas_mensais ALTER COLUMN faturamento TYPE numeric(12, 2)",
        "metricas_mensais.faturamento",
    ),
    "figures are double precision": (
        "ALTER TABLE metricas_mensais ALTER COLUMN lucro TYPE double precision",
        "metricas_mensais.lucro",
    ),
    "figures are smallint": (
        "ALTER TABLE metricas_mensais ALTER COLUMN stories TYPE smallint",
        "metricas_mensais.stories",
    ),
    "figures are money": (
        """ALTER TABLE metricas_mensais ALTER COLUMN lucro DROP DEFAULT,
        ALTER COLUMN lucro TYPE money USING lucro::money""",
        "metricas_mensais.lucro",
    ),
    "bigint figure out of range": (
        """ALTER TABLE metricas_mensais ALTER COLUMN faturamento TYPE bigint;
        UPDATE metricas_mensais SET faturamento = 3000000000 WHERE mentorado_id = 11""",
        "metricas_mensais.faturamento",
    ),
    "month is text": (
        "ALTER TABLE feedbacks ALTER COLUMN mes TYPE text",
        "feedbacks.mes",
    ),
    "ativo is boolean": (
        """ALTER TABLE mentorados ALTER COLUMN ativo DROP DEFAULT;
        ALTER TABLE mentorados ALTER COLUMN ativo TYPE boolean USING ativo = 'sim';
        ALTER TABLE mentorados ALTER COLUMN ativo SET DEFAULT true""",
        "mentorados.ativo",
    ),
    "onboarding_completed is boolean": (
        """ALTER TABLE mentorados ALTER COLUMN onboarding_completed DROP DEFAULT;
        ALTER TABLE mentorados ALTER COLUMN onboarding_completed TYPE boolean
        USING onboarding_completed = 'sim';
        ALTER TABLE mentorados ALTER COLUMN onboarding_completed SET DEFAULT false""",
        "mentorados.onboarding_completed",
    ),
    "ativo is text": (
        """ALTER TABLE mentorados ALTER COLUMN ativo DROP DEFAULT;
        ALTER TABLE mentorados ALTER COLUMN ativo TYPE text;
        ALTER TABLE mentorados ALTER COLUMN ativo SET DEFAULT 'sim'""",
        "mentorados.ativo",
    ),
    "role is text": (
        """ALTER TABLE users ALTER COLUMN role DROP DEFAULT;
        ALTER TABLE users ALTER COLUMN role TYPE text;
        ALTER TABLE users ALTER COLUMN role SET DEFAULT 'user'""",
        "users.role",
    ),
    "enum of another name": (
        "ALTER TYPE turma RENAME TO turma_enum",
        "mentorados.turma",
    ),
    "enum in another schema": (
        "CREATE SCHEMA tipos; ALTER TYPE turma SET SCHEMA tipos",
        "mentorados.turma",
    ),
    "onboarding_completed of the type ativo": (
        """ALTER TABLE mentorados ALTER COLUMN onboarding_completed DROP DEFAULT;
        ALTER TABLE mentorados ALTER COLUMN onboarding_completed TYPE ativo
        USING onboarding_completed::text::ativo;
        ALTER TABLE mentorados ALTER COLUMN onboarding_completed SET DEFAULT 'nao'""",
        "mentorados.onboarding_completed",
    ),
    "label in another case": (
        "ALTER TYPE ativo RENAME VALUE 'sim' TO 'Sim'",
        "ativo",
    ),
    "label missing": (
        """ALTER TABLE users ALTER COLUMN role DROP DEFAULT;
        ALTER TABLE users ALTER COLUMN role TYPE text; DROP TYPE role;
        CREATE TYPE role AS ENUM ('user'); DELETE FROM users WHERE id = 4;
        ALTER TABLE users ALTER COLUMN role TYPE role USING role::role;
        ALTER TABLE users ALTER COLUMN role SET DEFAULT 'user'""",
        "users.role",
    ),
    "extra role that a row has": (
        """ALTER TABLE users ALTER COLUMN role DROP DEFAULT;
        ALTER TABLE users ALTER COLUMN role TYPE text; DROP TYPE role;
        CREATE TYPE role AS ENUM ('user', 'admin', 'superadmin');
        ALTER TABLE users ALTER COLUMN role TYPE role USING role::role;
        ALTER TABLE users ALTER COLUMN role SET DEFAULT 'user';
        UPDATE users SET role = 'superadmin' WHERE id = 4""",
        "users.role",
    ),
    "extra class that a row has": (
        """ALTER TABLE mentorados ALTER COLUMN turma TYPE text; DROP TYPE turma;
        CREATE TYPE turma AS ENUM ('neon', 'ouro');
        ALTER TABLE mentorados ALTER COLUMN turma TYPE turma USING turma::turma;
        UPDATE mentorados SET turma = 'ouro' WHERE id IN (13, 17)""",
        "mentorados.turma",
    ),
    "name is too short": (
        "ALTER TABLE mentorados ALTER COLUMN nome_completo TYPE varchar(100)",
        "mentorados.nome_completo",
    ),
    "address is too short": (
        "ALTER TABLE users ALTER COLUMN email TYPE varchar(80)",
        "users.email",
    ),
    "users.name has a limit": (
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(60)",
        "users.name",
    ),
    "notes have a limit": (
        "ALTER TABLE metricas_mensais ALTER COLUMN observacoes TYPE varchar(200)",
        "metricas_mensais.observacoes",
    ),
    "clerk_id is char": ("ALTER TABLE users ALTER COLUMN clerk_id TYPE char(64)", "users.clerk_id"),
    "address of a domain": (
        """CREATE DOMAIN endereco AS varchar(320) CHECK (position('@example' IN lower(VALUE)) > 0);
        ALTER TABLE users ALTER COLUMN email TYPE endereco""",
        "users.email",
    ),
    "times are dates": (
        "ALTER TABLE feedbacks ALTER COLUMN created_at TYPE date",
        "feedbacks.created_at",
    ),
    "times are texts": (
        "ALTER TABLE users ALTER COLUMN last_signed_in TYPE text",
        "users.last_signed_in",
    ),
    # Nullability.
    "users.email is NOT NULL": (
        "DELETE FROM users WHERE id = 5; ALTER TABLE users ALTER COLUMN email SET NOT NULL",
        "users.email",
    ),
    "users.name is NOT NULL": (
        "DELETE FROM users WHERE id = 5; ALTER TABLE users ALTER COLUMN name SET NOT NULL",
        "users.name",
    ),
    "users.image_url is NOT NULL, with default": (
        """ALTER TABLE users ALTER COLUMN image_url SET DEFAULT '';
        UPDATE users SET image_url = ''; ALTER TABLE users ALTER COLUMN image_url SET NOT NULL""",
        "users.image_url",
    ),
    "mentorados.user_id is NOT NULL": (
        """DELETE FROM mentorados WHERE user_id IS NULL;
        ALTER TABLE mentorados ALTER COLUMN user_id SET NOT NULL""",
        "mentorados.user_id",
    ),
    "mentorados.email is NOT NULL": (
        """UPDATE mentorados SET email = 'x' || id || '@example.com' WHERE email IS NULL;
        ALTER TABLE mentorados ALTER COLUMN email SET NOT NULL""",
        "mentorados.email",
    ),
    "metricas.observacoes is NOT NULL": (
        """UPDATE metricas_mensais SET observacoes = '';
        ALTER TABLE metricas_mensais ALTER COLUMN observacoes SET NOT NULL""",
        "metricas_mensais.observacoes",
    ),
    "month goals are NOT NULL": (
        """UPDATE metricas_mensais SET meta_leads = 1;
        ALTER TABLE metricas_mensais ALTER COLUMN meta_leads SET NOT NULL""",
        "metricas_mensais.meta_leads",
    ),
    "rows without clerk_id": (
        """ALTER TABLE users ALTER COLUMN clerk_id DROP NOT NULL;
        UPDATE users SET clerk_id = NULL WHERE id = 5""",
        "users.clerk_id",
    ),
    "rows without created_at": (
        """ALTER TABLE mentorados ALTER COLUMN created_at DROP NOT NULL;
        UPDATE mentorados SET created_at = NULL WHERE id = 12""",
        "mentorados.created_at",
    ),
    "rows without faturamento": (
        """ALTER TABLE metricas_mensais ALTER COLUMN faturamento DROP NOT NULL;
        UPDATE metricas_mensais SET faturamento = NULL WHERE mentorado_id = 11""",
        "metricas_mensais.faturamento",
    ),
    "rows without a feedback text": (
        """ALTER TABLE feedbacks ALTER COLUMN analise_mes DROP NOT NULL;
        UPDATE feedbacks SET analise_mes = NULL""",
        "feedbacks.analise_mes",
    ),
    "rows without role": (
        "ALTER TABLE users ALTER COLUMN role DROP NOT NULL; UPDATE users SET role = NULL",
        "users.role",
    ),
    # Additional columns that rows of the app cannot fill.
    "further NOT NULL column of users": (
        """ALTER TABLE users ADD COLUMN cpf text; UPDATE users SET cpf = '0';
        ALTER TABLE users ALTER COLUMN cpf SET NOT NULL""",
        "users.cpf",
    ),
    "further NOT NULL column of mentorados": (
        """ALTER TABLE mentorados ADD COLUMN plano int; UPDATE mentorados SET plano = 1;
        ALTER TABLE mentorados ALTER COLUMN plano SET NOT NULL""",
        "mentorados.plano",
    ),
    "further NOT NULL column of metricas": (
        """ALTER TABLE metricas_mensais ADD COLUMN "Origem" text;
        UPDATE metricas_mensais SET "Origem" = 'x';
        ALTER TABLE metricas_mensais ALTER COLUMN "Origem" SET NOT NULL""",
        'metricas_mensais."Origem"',
    ),
    "further column of a domain that is NOT NULL": (
        """CREATE DOMAIN obrigatorio AS text NOT NULL;
        ALTER TABLE feedbacks ADD COLUMN tom obrigatorio DEFAULT 'a';
        ALTER TABLE feedbacks ALTER COLUMN tom DROP DEFAULT""",
        "feedbacks.tom",
    ),
    "columns that we add are there": (
        "ALTER TABLE users ADD COLUMN deleted_at timestamp, ADD COLUMN email_verified text",
        "users.deleted_at",
    ),
    "column that we add to mentorados is there": (
        "ALTER TABLE mentorados ADD COLUMN edited_at timestamptz",
        "mentorados.edited_at",
    ),
    "generated name": (
        """ALTER TABLE mentorados DROP COLUMN foto_url;
        ALTER TABLE mentorados ADD COLUMN foto_url varchar(500)
        GENERATED ALWAYS AS ('https://example.com/' || nome_completo) STORED""",
        "mentorados.foto_url",
    ),
    "year is an identity": (
        """ALTER TABLE feedbacks ALTER COLUMN ano ADD GENERATED ALWAYS AS IDENTITY""",
        "feedbacks.ano",
    ),
    # Ids and sequences.
    "id without default": ("ALTER TABLE users ALTER COLUMN id DROP DEFAULT", "users.id"),
    "sequence at its end": (
        "ALTER SEQUENCE mentorados_id_seq MAXVALUE 100",
        "mentorados.id",
    ),
    "id without key": (
        """ALTER TABLE feedbacks DROP CONSTRAINT feedbacks_pkey;
        INSERT INTO feedbacks (id, mentorado_id, ano, mes, analise_mes, foco_proximo_mes,
        sugestao_mentor) SELECT id, mentorado_id, ano + 1, mes, '', '', '' FROM feedbacks""",
        "feedbacks",
    ),
    # Uniqueness.
    "one clerk_id twice": (
        """ALTER TABLE users DROP CONSTRAINT users_clerk_id_key; DROP INDEX users_clerk_id_idx;
        UPDATE users SET clerk_id = 'user_bruno' WHERE id = 5""",
        "users.clerk_id",
    ),
    "one month twice": (
        """DROP INDEX metricas_mentorado_periodo_idx;
        INSERT INTO metricas_mensais (mentorado_id, ano, mes, faturamento)
        VALUES (11, 2026, 1, 3)""",
        "metricas_mensais",
    ),
    "one feedback twice": (
        """DROP INDEX feedbacks_mentorado_periodo_idx;
        INSERT INTO feedbacks (mentorado_id, ano, mes, analise_mes, foco_proximo_mes,
                               sugestao_mentor) VALUES (13, 2026, 1, 'a', 'b', 'c')""",
        "feedbacks",
    ),
    "plain index with a name of the app": (
        "CREATE INDEX mentorados_user_id_unique_idx ON mentorados (user_id)",
        "mentorados_user_id_unique_idx",
    ),
    "unique index of other columns with a name of the app": (
        "CREATE UNIQUE INDEX mentorados_user_id_unique_idx ON mentorados (user_id, id)",
        "mentorados_user_id_unique_idx",
    ),
    "plain index under the name of the months": (
        """DROP INDEX metricas_mentorado_periodo_idx;
        CREATE INDEX metricas_mentorado_periodo_idx ON metricas_mensais (mentorado_id, ano, mes)""",
        "metricas_mentorado_periodo_idx",
    ),
    "partial index under the name of the feedback": (
        """DROP INDEX feedbacks_mentorado_periodo_idx;
        CREATE UNIQUE INDEX feedbacks_mentorado_periodo_idx ON feedbacks (mentorado_id, ano, mes)
        WHERE ano > 2020""",
        "feedbacks_mentorado_periodo_idx",
    ),
    "index of another table with a name of the app": (
        "CREATE UNIQUE INDEX mentorados_user_id_unique_idx ON diagnosticos (mentorado_id)",
        "mentorados_user_id_unique_idx",
    ),
    "name of a later index is taken": (
        "CREATE INDEX mentorados_created_at_idx ON interacoes (created_at)",
        "mentorados_created_at_idx",
    ),
    "clerk_id unique twice, once deferrable": (
        """
        ALTER TABLE users DROP CONSTRAINT users_clerk_id_key;
        ALTER TABLE users ADD CONSTRAINT users_clerk_id_key UNIQUE (clerk_id) DEFERRABLE""",
        "users_clerk_id_key",
    ),
    "profiles unique and deferrable": (
        """DELETE FROM mentorados WHERE id IN (10, 12, 14);
        ALTER TABLE mentorados ADD CONSTRAINT um_perfil UNIQUE (user_id) DEFERRABLE""",
        "um_perfil",
    ),
    "deferrable key of the months": (
        """DROP INDEX metricas_mentorado_periodo_idx;
        ALTER TABLE metricas_mensais ADD CONSTRAINT metricas_mentorado_periodo_idx
        UNIQUE (mentorado_id, ano, mes) DEFERRABLE""",
        "metricas_mentorado_periodo_idx",
    ),
    "address unique": (
        """UPDATE mentorados SET email = id || '@example.com';
        ALTER TABLE mentorados ADD UNIQUE (email)""",
        "mentorados_email_key",
    ),
    "users.email unique": ("ALTER TABLE users ADD UNIQUE (email)", "users_email_key"),
    "address unique in lower case": (
        "CREATE UNIQUE INDEX um_email ON users (lower(email))",
        "um_email",
    ),
    "name unique where waiting": (
        "CREATE UNIQUE INDEX um_nome ON mentorados (nome_completo) WHERE user_id IS NULL",
        "um_nome",
    ),
    "one month for all": (
        """DELETE FROM metricas_mensais WHERE mentorado_id <> 11;
        CREATE UNIQUE INDEX um_mes ON metricas_mensais (ano, mes)""",
        "um_mes",
    ),
    "additional column unique without distinct nulls": (
        """ALTER TABLE mentorados ADD COLUMN cartao int; UPDATE mentorados SET cartao = id;
        ALTER TABLE mentorados ADD CONSTRAINT um_cartao UNIQUE NULLS NOT DISTINCT (cartao)""",
        "um_cartao",
    ),
    "one profile without user": (
        """DELETE FROM mentorados WHERE id IN (10, 12, 14, 15, 16);
        ALTER TABLE mentorados ADD CONSTRAINT um_livre UNIQUE NULLS NOT DISTINCT (user_id)""",
        "um_livre",
    ),
    "additional unique column with a constant default": (
        """ALTER TABLE mentorados ADD COLUMN cartao int DEFAULT 0;
        UPDATE mentorados SET cartao = id; ALTER TABLE mentorados ADD UNIQUE (cartao)""",
        "mentorados_cartao_key",
    ),
    "exclusion of overlapping months": (
        "ALTER TABLE feedbacks ADD CONSTRAINT sem_sobra EXCLUDE USING btree (analise_mes WITH =)",
        "sem_sobra",
    ),
    # Foreign keys.
    "profile of an unknown user": (
        """ALTER TABLE mentorados DROP CONSTRAINT mentorados_user_id_fkey;
        UPDATE mentorados SET user_id = 77 WHERE id = 17""",
        "mentorados.user_id",
    ),
    "months of an unknown profile": (
        """ALTER TABLE metricas_mensais DROP CONSTRAINT metricas_mensais_mentorado_id_fkey;
        INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (555, 2026, 1)""",
        "metricas_mensais.mentorado_id",
    ),
    "months of an unknown profile with a key that is not valid": (
        """ALTER TABLE feedbacks DROP CONSTRAINT feedbacks_mentorado_id_fkey;
        UPDATE feedbacks SET mentorado_id = 555 WHERE mentorado_id = 13;
        ALTER TABLE feedbacks ADD FOREIGN KEY (mentorado_id) REFERENCES mentorados
        ON DELETE CASCADE NOT VALID""",
        "feedbacks.mentorado_id",
    ),
    "months that restrict": (
        """ALTER TABLE metricas_mensais DROP CONSTRAINT metricas_mensais_mentorado_id_fkey;
        ALTER TABLE metricas_mensais ADD FOREIGN KEY (mentorado_id) REFERENCES mentorados
        ON DELETE RESTRICT""",
        "metricas_mensais.mentorado_id",
    ),
    "feedback without action": (
        """ALTER TABLE feedbacks DROP CONSTRAINT feedbacks_mentorado_id_fkey;
        ALTER TABLE feedbacks ADD FOREIGN KEY (mentorado_id) REFERENCES mentorados""",
        "feedbacks.mentorado_id",
    ),
    "profiles deleted with their user": (
        """ALTER TABLE mentorados DROP CONSTRAINT mentorados_user_id_fkey;
        ALTER TABLE mentorados ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE""",
        "mentorados.user_id",
    ),
    "months of a user": (
        """ALTER TABLE feedbacks DROP CONSTRAINT feedbacks_mentorado_id_fkey;
        DELETE FROM feedbacks; DELETE FROM users WHERE id > 3;
        ALTER TABLE feedbacks ADD FOREIGN KEY (mentorado_id) REFERENCES users ON DELETE CASCADE""",
        "feedbacks.mentorado_id",
    ),
    "turma is a reference": (
        """CREATE TABLE turmas (turma turma PRIMARY KEY); INSERT INTO turmas VALUES ('neon');
        ALTER TABLE mentorados ADD FOREIGN KEY (turma) REFERENCES turmas""",
        "mentorados.turma",
    ),
    "addresses are a reference": (
        """CREATE TABLE convites (email varchar(320) PRIMARY KEY);
        INSERT INTO convites SELECT DISTINCT email FROM mentorados WHERE email IS NOT NULL;
        ALTER TABLE mentorados ADD FOREIGN KEY (email) REFERENCES convites""",
        "mentorados.email",
    ),
    "ids of users refer to another table": (
        """CREATE TABLE contas (id integer PRIMARY KEY); INSERT INTO contas SELECT id FROM users;
        ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES contas""",
        "users.id",
    ),
    # Constraints that writes of the app violate.
    "revenue above zero": (
        "ALTER TABLE metricas_mensais ADD CONSTRAINT positivo CHECK (faturamento > 0)",
        "positivo",
    ),
    "profit not negative": (
        "ALTER TABLE metricas_mensais ADD CONSTRAINT sem_perda CHECK (lucro >= 0)",
        "sem_perda",
    ),
    "profit within revenue": (
        "ALTER TABLE metricas_mensais ADD CONSTRAINT cabe CHECK (lucro <= faturamento)",
        "cabe",
    ),
    "revenue below a million": (
        "ALTER TABLE metricas_mensais ADD CONSTRAINT teto CHECK (faturamento < 1000000)",
        "teto",
    ),
    "only active": (
        "ALTER TABLE mentorados ADD CONSTRAINT so_ativo CHECK (ativo = 'sim')",
        "so_ativo",
    ),
    "only addresses of one domain": (
        "ALTER TABLE users ADD CONSTRAINT nosso CHECK (right(email, 12) = '@example.com')",
        "nosso",
    ),
    "never without address": (
        """DELETE FROM users WHERE id = 5;
        ALTER TABLE users ADD CONSTRAINT com_email CHECK (email IS NOT NULL)""",
        "com_email",
    ),
    "photo by https": (
        "ALTER TABLE mentorados ADD CONSTRAINT https CHECK (left(foto_url, 8) = 'https://')",
        "https",
    ),
    "constraint about an additional column": (
        """ALTER TABLE mentorados ADD COLUMN fone text;
        ALTER TABLE mentorados ADD CONSTRAINT contato CHECK
        (fone IS NOT NULL OR user_id IS NULL) NOT VALID""",
        "contato",
    ),
    # Rows that the app cannot read or would show wrongly.
    "month 13": (
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 2025, 13)",
        "metricas_mensais.mes",
    ),
    "month 0": (
        "UPDATE feedbacks SET mes = 0 WHERE mentorado_id = 13",
        "feedbacks.mes",
    ),
    "year 0": (
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 0, 1)",
        "metricas_mensais.ano",
    ),
    "year 20260": (
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 20260, 1)",
        "metricas_mensais.ano",
    ),
    "negative revenue": (
        "UPDATE metricas_mensais SET faturamento = -5 WHERE mentorado_id = 11",
        "metricas_mensais.faturamento",
    ),
    "negative goal": (
        "UPDATE mentorados SET meta_leads = -1 WHERE id = 11",
        "mentorados.meta_leads",
    ),
    "empty clerk_id": ("UPDATE users SET clerk_id = '' WHERE id = 5", "users.clerk_id"),
    "blank clerk_id": ("UPDATE users SET clerk_id = '  ' WHERE id = 5", "users.clerk_id"),
    "long clerk_id": (
        """ALTER TABLE users ALTER COLUMN clerk_id TYPE text;
        UPDATE users SET clerk_id = repeat('x', 70) WHERE id = 5""",
        "users.clerk_id",
    ),
    "infinite time": (
        "UPDATE users SET last_signed_in = 'infinity' WHERE id = 1",
        "users.last_signed_in",
    ),
    "time before Christ": (
        "UPDATE mentorados SET created_at = '0044-03-15 BC' WHERE id = 11",
        "mentorados.created_at",
    ),
    "time after the year 9999": (
        "UPDATE feedbacks SET created_at = '12026-01-01' WHERE mentorado_id = 13",
        "feedbacks.created_at",
    ),
    # Kinds of tables and dependent objects.
    "users is a view": (
        "ALTER TABLE users RENAME TO pessoas; CREATE VIEW users AS SELECT * FROM pessoas",
        "users",
    ),
    "metricas_mensais is partitioned": (
        """ALTER TABLE metricas_mensais RENAME TO antigas;
        DROP INDEX metricas_mentorado_idx, metricas_mentorado_periodo_idx, metricas_periodo_idx;
        CREATE TABLE metricas_mensais (LIKE antigas INCLUDING DEFAULTS) PARTITION BY RANGE (ano);
        CREATE TABLE metricas_todas PARTITION OF metricas_mensais DEFAULT;
        INSERT INTO metricas_mensais SELECT * FROM antigas;
        ALTER TABLE metricas_mensais ADD FOREIGN KEY (mentorado_id) REFERENCES mentorados
        ON DELETE CASCADE;
        CREATE UNIQUE INDEX metricas_mentorado_periodo_idx
            ON metricas_mensais (mentorado_id, ano, mes)""",
        "metricas_mensais",
    ),
    "users has an inheriting table": ("CREATE TABLE vip (nivel int) INHERITS (users)", "users"),
    "feedbacks inherits from another table": (
        """CREATE TABLE textos (analise_mes text NOT NULL);
        ALTER TABLE feedbacks INHERIT textos""",
        "feedbacks",
    ),
    "users in another schema": (
        "CREATE SCHEMA contas; ALTER TABLE users SET SCHEMA contas",
        "users",
    ),
    "a view that uses a time": (
        "CREATE VIEW entradas AS SELECT name, last_signed_in FROM users",
        "entradas",
    ),
    "an index of the day": (
        """CREATE INDEX por_data ON interacoes ((created_at::date));
        CREATE INDEX por_dia ON users ((created_at::date))""",
        "por_dia",
    ),
    "a trigger of a time": (
        """CREATE FUNCTION nada() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER so_hora BEFORE UPDATE OF updated_at ON mentorados
        FOR EACH ROW EXECUTE FUNCTION nada()""",
        "so_hora",
    ),
    "a policy of a time": (
        "CREATE POLICY recentes ON users USING (last_signed_in > '2026-01-01')",
        "recentes",
    ),
    "a generated column of a time": (
        """ALTER TABLE feedbacks ADD COLUMN ano_criado int
        GENERATED ALWAYS AS (extract(year FROM created_at)) STORED""",
        "ano_criado",
    ),
    "long address": (
        """ALTER TABLE users ALTER COLUMN email TYPE text;
        UPDATE users SET email = repeat('x', 400) || '@example.com' WHERE id = 5""",
        "users.email",
    ),
    # Names that the app needs.
    "name of a table is taken": ("CREATE TABLE sweep_totals (id integer)", "sweep_totals"),
    "name of a table is taken by a view": (
        "CREATE VIEW audit_events AS SELECT 1 AS um",
        "audit_events",
    ),
    "name of a function is taken": (
        """CREATE FUNCTION normalized_address(address text) RETURNS text
        LANGUAGE sql AS $$ SELECT upper(address) $$""",
        "normalized_address",
    ),
    "name of a helper function is taken": (
        """CREATE FUNCTION domain_key(domain text) RETURNS text
        LANGUAGE sql AS $$ SELECT upper(domain) $$""",
        "domain_key",
    ),
}

# As `REFUSED`, but detected only by writing rows.
REFUSED_IN_TRIAL = {
    "trigger that refuses rows": (
        """CREATE FUNCTION nega() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'somente pelo sistema antigo'; END $$;
        CREATE TRIGGER nega BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION nega()""",
        "users",
    ),
    "trigger that discards rows": (
        """CREATE FUNCTION engole() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER engole BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION engole()""",
        "mentorados",
    ),
    "trigger that fails for a month": (
        """CREATE FUNCTION falha() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN NEW.nao_existe; END $$;
        CREATE TRIGGER falha AFTER INSERT ON metricas_mensais
        FOR EACH ROW EXECUTE FUNCTION falha()""",
        "metricas_mensais",
    ),
    "rule that discards rows": (
        "CREATE RULE nada AS ON INSERT TO feedbacks DO INSTEAD NOTHING",
        "feedbacks",
    ),
}
